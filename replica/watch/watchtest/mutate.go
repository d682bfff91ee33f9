package watchtest

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// Mutate does one random thing to the tree below root, or to what lies in the
// directory beside, from and to which things move. Few names make them meet
// often; what cannot be done is left.
func Mutate(rng *rand.Rand, root, beside string) {
	names := []string{"a", "b", "c", "d d", "é"}
	pick := func(base string) string {
		p := base
		for range 1 + rng.IntN(4) {
			p = filepath.Join(p, names[rng.IntN(len(names))])
		}
		return p
	}
	p, q := pick(root), pick(root)
	switch rng.IntN(14) {
	case 0, 1, 2:
		_ = os.MkdirAll(p, 0o755)
	case 3, 4:
		// A directory and at once something in it.
		_ = os.MkdirAll(filepath.Dir(p), 0o755)
		_ = os.WriteFile(p, []byte(fmt.Sprint(rng.Uint64())), 0o644)
	case 5:
		if f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600); err == nil {
			_, _ = fmt.Fprint(f, rng.Uint64())
			_ = f.Close()
		}
	case 6:
		_ = os.Truncate(p, rng.Int64N(50))
	case 7:
		_ = os.Remove(p)
	case 8:
		if rng.IntN(3) == 0 {
			_ = os.RemoveAll(p)
		}
	case 9, 10:
		_ = os.Rename(p, q)
	case 11:
		// Away, and something back from there.
		out, in := filepath.Join(beside, fmt.Sprint(rng.IntN(5))), filepath.Join(beside, fmt.Sprint(rng.IntN(5)))
		_ = os.RemoveAll(out)
		_ = os.Rename(p, out)
		_ = os.Rename(in, q)
	case 12:
		_ = os.Symlink(q, p)
	case 13:
		// Through no link: what it leads to may have another name elsewhere.
		if info, err := os.Lstat(p); err == nil && info.Mode()&fs.ModeSymlink == 0 {
			_ = os.Chmod(p, fs.FileMode(0o700|rng.IntN(0o100)))
			_ = os.Chtimes(p, time.Time{}, time.Unix(rng.Int64N(1e9), rng.Int64N(1e9)))
		}
	}
}
