package replicatest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/internal/interrupt"
	"github.com/budgiehq/budgie/replica/watch"
)

// Fake is a Syncer for the tests of programs that use one. It does copy, in
// the simplest way: each side holds the whole volume in memory, and a file
// that differs under its own name is sent whole. It does not care about
// hostile peers, full disks and power cuts, and does not speak to other
// Syncers. All methods may be called concurrently.
type Fake struct {
	mu       sync.Mutex
	fail     error
	received []string
}

// NewFake returns a Fake.
func NewFake() *Fake { return &Fake{} }

// Fail makes every Send and Receive from now on return err; nil heals.
func (f *Fake) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

// Received returns the directories of all Receives that succeeded, in order.
func (f *Fake) Received() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.received)
}

// maxMessage is more than a volume in a test has.
const maxMessage = 1 << 30

// fakeEntry is an entry of a volume. Content does not travel with the others.
type fakeEntry struct {
	Path    string
	Kind    byte // 'd', 'f', 'l', 'h' for another name of a file, or 's' for special
	Mode    uint32
	Owner   string // uid:gid
	Time    int64
	Target  string // of links of both kinds
	Size    int64
	Sum     [sha256.Size]byte
	Xattrs  map[string]string
	content []byte
	file    string // which file of the system it is, where it has other names
}

// wanted says which files the receiver wants, verdict how its copy came out.
type (
	wanted struct {
		Paths []string
		// Plain is uid:gid of a receiver that can give files to nobody else.
		Plain string
	}
	files   struct{ Contents [][]byte }
	verdict struct {
		Digest  string
		Removed int
	}
)

// Send implements Syncer.
func (f *Fake) Send(ctx context.Context, conn io.ReadWriter, dir string) (replica.Report, error) {
	return f.guard(ctx, conn, func() (replica.Report, error) {
		// From before the first look on, so that nothing is missed, also where the
		// directory is replaced between the two.
		w, err := watch.New(dir)
		if err != nil {
			return replica.Report{}, err
		}
		defer w.Close()
		report, err := sendOnce(conn, dir)
		if err != nil {
			return replica.Report{}, err
		}
		return report, sendChanges(ctx, conn, dir, w.Changes())
	})
}

// sendOnce sends a volume.
func sendOnce(conn io.ReadWriter, dir string) (replica.Report, error) {
	entries, err := readVolume(dir)
	if err != nil {
		return replica.Report{}, err
	}
	return sendEntries(conn, entries)
}

func sendEntries(conn io.ReadWriter, entries []fakeEntry) (replica.Report, error) {
	if err := say(conn, entries); err != nil {
		return replica.Report{}, err
	}
	var w wanted
	if err := hear(conn, &w); err != nil {
		return replica.Report{}, err
	}
	report := describeVolume(entries, w.Plain)
	var contents files
	for _, e := range entries {
		if slices.Contains(w.Paths, e.Path) {
			contents.Contents = append(contents.Contents, e.content)
			report.Transferred += e.Size
		}
	}
	if err := say(conn, contents); err != nil {
		return replica.Report{}, err
	}
	var v verdict
	if err := hear(conn, &v); err != nil {
		return replica.Report{}, err
	}
	report.Removed = v.Removed
	if v.Digest != report.Digest {
		return replica.Report{}, replica.ErrVerify
	}
	return report, nil
}

// Receive implements Syncer.
func (f *Fake) Receive(ctx context.Context, conn io.ReadWriter, dir string, opts replica.ReceiveOptions) (replica.Report, error) {
	return f.guard(ctx, conn, func() (replica.Report, error) {
		report, err := f.receiveOnce(conn, dir, opts.Tell)
		if err != nil {
			return replica.Report{}, err
		}
		return report, say(conn, wish{})
	})
}

// receiveOnce receives a volume, and says how far it is.
func (f *Fake) receiveOnce(conn io.ReadWriter, dir string, tell func(replica.Progress)) (replica.Report, error) {
	var entries []fakeEntry
	if err := hear(conn, &entries); err != nil {
		return replica.Report{}, err
	}
	local, err := readCopy(dir)
	if err != nil {
		return replica.Report{}, err
	}
	if len(entries) == 1 && len(local) > 1 { // the directory itself is one
		return replica.Report{}, replica.ErrEmptied
	}
	w := fill(entries, local)
	if uid := os.Geteuid(); uid > 0 {
		w.Plain = fmt.Sprintf("%d:%d", uid, os.Getegid())
	}
	progress := progressOf(entries, w)
	if tell != nil {
		tell(progress)
	}
	if err := say(conn, w); err != nil {
		return replica.Report{}, err
	}
	var contents files
	if err := hear(conn, &contents); err != nil {
		return replica.Report{}, err
	}
	report := describeVolume(entries, w.Plain)
	for _, c := range contents.Contents {
		report.Transferred += int64(len(c))
	}
	if err := accept(entries, w, contents); err != nil {
		return replica.Report{}, err
	}
	if report.Removed, err = writeVolume(dir, local, entries); err != nil {
		return replica.Report{}, err
	}
	copied, err := readVolume(dir)
	if err != nil {
		return replica.Report{}, err
	}
	if describeVolume(copied, w.Plain).Digest != report.Digest {
		return replica.Report{}, fmt.Errorf("copy to %s: %w", dir, replica.ErrVerify)
	}
	if err := say(conn, verdict{report.Digest, report.Removed}); err != nil {
		return replica.Report{}, err
	}
	if tell != nil {
		tell(completed(progress))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.received = append(f.received, dir)
	return report, nil
}

// progressOf says how much of a volume need not come.
func progressOf(entries []fakeEntry, w wanted) replica.Progress {
	p := replica.Progress{Step: replica.Receiving}
	for _, e := range entries {
		if e.Kind != 'f' {
			continue
		}
		p.TotalFiles++
		p.TotalBytes += e.Size
		if !slices.Contains(w.Paths, e.Path) {
			p.Files++
			p.Bytes += e.Size
		}
	}
	return p
}

// completed is the progress of a copy that is complete.
func completed(p replica.Progress) replica.Progress {
	return replica.Progress{Step: replica.Verifying, Files: p.TotalFiles, TotalFiles: p.TotalFiles, Bytes: p.TotalBytes, TotalBytes: p.TotalBytes}
}

// guard runs one side of a copy, unless it shall fail.
func (f *Fake) guard(ctx context.Context, conn io.ReadWriter, run func() (replica.Report, error)) (replica.Report, error) {
	f.mu.Lock()
	fail := f.fail
	f.mu.Unlock()
	if fail != nil {
		return replica.Report{}, fail
	}
	if err := ctx.Err(); err != nil {
		return replica.Report{}, err
	}
	stop := interrupt.Watch(ctx, conn)
	defer stop()
	report, err := run()
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return report, err
}

// fill gives entries the content that is there already under the same name,
// and says which others are wanted.
func fill(entries []fakeEntry, local map[string]fakeEntry) wanted {
	var w wanted
	for i, e := range entries {
		if e.Kind != 'f' {
			continue
		}
		if have, ok := local[e.Path]; ok && have.isFile() && have.Sum == e.Sum {
			entries[i].content = have.content
		} else {
			w.Paths = append(w.Paths, e.Path)
		}
	}
	return w
}

// accept gives the wanted entries what came for them.
func accept(entries []fakeEntry, w wanted, contents files) error {
	if len(contents.Contents) != len(w.Paths) {
		return fmt.Errorf("%w: %d files instead of %d", replica.ErrProtocol, len(contents.Contents), len(w.Paths))
	}
	next := 0
	for i, e := range entries {
		if next == len(w.Paths) || e.Path != w.Paths[next] {
			continue
		}
		entries[i].content = contents.Contents[next]
		if sha256.Sum256(entries[i].content) != e.Sum {
			return fmt.Errorf("%s: %w", e.Path, replica.ErrVerify)
		}
		next++
	}
	return nil
}

// describeVolume makes a report of all that an entry list says, and takes from
// it what a plain user cannot keep, if one receives.
func describeVolume(entries []fakeEntry, plain string) replica.Report {
	var r replica.Report
	if plain != "" {
		r.NotKept = forPlainUser(entries, plain)
	}
	h := sha256.New()
	for _, e := range entries {
		if e.Kind == 's' {
			r.Skipped = append(r.Skipped, e.Path)
			continue
		}
		fmt.Fprintf(h, "%q %q\n", e.Path, e.words())
		r.Bytes += e.Size
		if e.Path != "." {
			r.Files++
		}
	}
	r.Digest = "fake:" + hex.EncodeToString(h.Sum(nil))
	return r
}

// say sends a value as one message, its length first.
func say(conn io.Writer, value any) error {
	var b bytes.Buffer
	b.Write(make([]byte, 8))
	if err := gob.NewEncoder(&b).Encode(value); err != nil {
		return err
	}
	binary.BigEndian.PutUint64(b.Bytes(), uint64(b.Len()-8))
	_, err := conn.Write(b.Bytes())
	return err
}

// hear receives a value, and not a byte more.
func hear(conn io.Reader, value any) error {
	var head [8]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return fmt.Errorf("fake syncer: %w", err)
	}
	n := binary.BigEndian.Uint64(head[:])
	if n > maxMessage {
		return fmt.Errorf("fake syncer: %w: message of %d bytes", replica.ErrProtocol, n)
	}
	var b strings.Builder
	if _, err := io.CopyN(&b, conn, int64(n)); err != nil {
		return fmt.Errorf("fake syncer: %w", err)
	}
	if err := gob.NewDecoder(strings.NewReader(b.String())).Decode(value); err != nil {
		return fmt.Errorf("fake syncer: %w: %w", replica.ErrProtocol, err)
	}
	return nil
}
