package bunfile_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// hostileTexts are built to cost a parser much more than their size.
func hostileTexts(size int) map[string]string {
	fill := func(part string) string { return strings.Repeat(part, size/len(part)) }
	head := "version: \"1.0\"\nimage: {docker_image: a}\n"
	bomb := head + "labels:\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := range 20 {
		bomb += fmt.Sprintf("  a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 9), ","))
	}
	var cycle strings.Builder
	for i := range 400 {
		fmt.Fprintf(&cycle, "---\nversion: \"1.0\"\nname: c%d\nimage: {command: [a]}\ndepends_on: [c%d, c%d, c0, cx%d]\n", i, (i+1)%400, (i+7)%400, i)
	}
	return map[string]string{
		"brackets":           fill("["),
		"braces":             fill("{"),
		"pairs of brackets":  fill("[]"),
		"open in a value":    head + "ports: " + fill("["),
		"maps in flow":       head + "labels: " + fill("{a: "),
		"commas":             "[" + fill(","),
		"dashes":             fill("- "),
		"dash lines":         fill("-\n"),
		"question marks":     fill("? "),
		"colons":             fill(": "),
		"colon run":          fill(":"),
		"anchors":            fill("&a "),
		"aliases":            fill("*a "),
		"alias keys":         fill("*a : "),
		"tags":               fill("! "),
		"long tag":           "a: !" + fill("x"),
		"merge marks":        fill("<"),
		"merge marks apart":  fill("<< "),
		"merge almost":       fill("<<:"),
		"keys":               fill("a:\n"),
		"different keys":     head + "labels:\n" + numbered(size, "  k%d: v\n"),
		"unknown keys":       head + numbered(size, "prots%d: []\n"),
		"wrong values":       head + "ports:\n" + fill("- {container_port: x, host_port: [], zzz: 1}\n"),
		"environment":        head + "environment:\n" + numbered(size, "- K%d=v\n"),
		"same variable":      head + "environment:\n" + fill("- K=v\n"),
		"documents":          fill("---\na: b\n"),
		"empty documents":    fill("---\n"),
		"document ends":      fill("...\n"),
		"directives":         fill("%a\n"),
		"block headers":      fill("|\n"),
		"blank lines":        "a: |\n  x\n" + fill("\n"),
		"blank after text":   "a: |\n" + strings.Repeat("  xxxxxxx\n", size/20) + strings.Repeat("\n", size/2),
		"spaces and lines":   "a: \"" + fill(" \n") + "\"",
		"tabs in quotes":     "a: \"" + fill("\t") + "x\"",
		"tabs between":       "a: \"" + fill("\tx") + "\"",
		"comments":           fill("#\n"),
		"comment ends":       "a: b\n" + fill("#\\\n"),
		"quotes":             fill("''"),
		"escapes":            "a: \"" + fill("\\xzz") + "\"",
		"quoted in one line": head + "labels: {a: [" + fill("\"x\",") + "]}",
		"keys in one line":   head + "labels: {" + fill("\"x\": 1,") + "}",
		"plain lines":        "a: b\n" + fill("  x\n"),
		"folded":             "a: >\n" + fill("  x\n\n"),
		"raw folded":         "a: b\n" + fill(" -x\n"),
		"indentation":        staircase(size),
		"carriage returns":   fill("\r"),
		"alias bomb":         bomb,
		"merge bomb":         mergeBomb(),
		"scalar aliases":     head + "environment:\n- &a K=" + strings.Repeat("x", size/2) + "\n" + strings.Repeat("- *a\n", size/20),
		"dependency circles": cycle.String(),
		"NUL":                fill("\x00"),
		"not UTF-8":          fill("\xff"),
	}
}

func numbered(size int, format string) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func staircase(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func mergeBomb() string {
	text := "version: \"1.0\"\nimage: {docker_image: a}\nlabels:\n  <<: &m0 {a: b}\n"
	for i := range 20 {
		text += fmt.Sprintf("x%d:\n  <<: &m%d [%s]\n", i, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*m%d,", i), 9), ","))
	}
	return text
}

// costOf returns the time and the memory that parse takes: what it allocates
// in all, of which only a part is in use at a time.
func costOf(parse func()) (time.Duration, uint64) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	parse()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	return took, after.TotalAlloc - before.TotalAlloc
}

// A text beyond the limit costs next to nothing, whatever is in it.
func TestHostileMegabyteIsCheap(t *testing.T) {
	for name, text := range hostileTexts(1 << 20) {
		if len(text) < bunfile.MaxSize {
			continue // a bomb is small; see the next test
		}
		took, allocated := costOf(func() {
			if _, err := bunfile.Parse("x.bun", []byte(text)); !errors.Is(err, bunfile.ErrTooLarge) {
				t.Errorf("%s: %v", name, err)
			}
		})
		if took > time.Second || allocated > 64<<20 {
			t.Errorf("%s: %d bytes took %v and %d MiB", name, len(text), took, allocated>>20)
		}
	}
}

// The worst that fits into the limit stays bounded, too.
func TestHostileTextWithinTheLimit(t *testing.T) {
	const limit = 512 << 20 // in all; a few dozen MiB at a time
	most := 4 * time.Second // a bound for a busy machine with the race detector on
	for name, text := range hostileTexts(bunfile.MaxSize - 4096) {
		if len(text) > bunfile.MaxSize {
			text = text[:bunfile.MaxSize]
		}
		var err error
		took, allocated := costOf(func() { _, err = bunfile.Parse("x.bun", []byte(text)) })
		if took > most || allocated > limit {
			t.Errorf("%s: %d bytes took %v and %d MiB (%.200v)", name, len(text), took, allocated>>20, err)
		}
		if err != nil {
			checkPositions(t, []byte(text), err)
			if len(err.Error()) > 1<<20 {
				t.Errorf("%s: the error has %d bytes", name, len(err.Error()))
			}
		}
	}
}

func TestLimitsHaveAName(t *testing.T) {
	texts := hostileTexts(bunfile.MaxSize - 4096)
	for _, name := range []string{"brackets", "dashes", "documents", "keys", "merge marks", "blank lines", "tabs between", "alias bomb", "scalar aliases", "indentation"} {
		if _, err := bunfile.Parse("x.bun", []byte(texts[name])); !errors.Is(err, bunfile.ErrTooLarge) {
			t.Errorf("%s: no ErrTooLarge: %.300v", name, err)
		}
	}
}

func TestUntrustedTextHasNoAnchors(t *testing.T) {
	head := "version: \"1.0\"\nname: a\nimage: {docker_image: nginx}\n"
	for _, tail := range []string{"hostname: &h b\n", "labels: {a: *x}\n", "labels:\n  <<: {a: b}\n", "labels: &l {a: b}\n"} {
		_, err := bunfile.ParseUntrusted("peer", []byte(head+tail))
		if err == nil || !strings.Contains(err.Error(), "from a peer") {
			t.Errorf("%q: %v", tail, err)
		}
	}
	if _, err := bunfile.ParseUntrusted("peer", []byte(head+"labels: {a: \"*x\", \"<<\": \"&y\"}\n")); err != nil {
		t.Errorf("in quotes these are text: %v", err)
	}
}
