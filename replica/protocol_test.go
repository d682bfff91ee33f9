package replica

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// The document says of every frame and limit what the code does.
func TestProtocolDocumentIsRight(t *testing.T) {
	text, err := os.ReadFile("../docs/sync-protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	want := []string{fmt.Sprintf("version %d\n", maxVersion), "`" + magic + "`", "`" + temporaryPrefix + "`"}
	for i, name := range []string{"hello", "error", "entries", "manifest", "want", "wantEnd", "data", "fileEnd", "again", "done", "verified", "bye"} {
		want = append(want, fmt.Sprintf("| %d | %s |", int(frameHello)+i, name))
	}
	for i, name := range []string{"keeps", "leftOut", "zeros"} {
		want = append(want, fmt.Sprintf("| %d | %s |", int(frameKeeps)+i, name))
	}
	for what, limit := range map[string]int64{
		"| entries | %s |": maxEntries, "together | %s bytes |": maxManifestBytes,
		"| path | %s bytes |": maxPath, "| name | %s bytes |": maxName, "| depth | %s |": maxDepth,
		"link | %s bytes |": maxTarget, "encoded | %s bytes |": maxXattrs, "| file | %s bytes |": maxFileSize,
		"session | %s |": maxRounds, "at most %s bytes; a longer": maxFrame, "text (at most %s bytes)": maxErrorText,
	} {
		want = append(want, fmt.Sprintf(what, grouped(limit)))
	}
	for i, k := range []kind{kindDir, kindFile, kindSymlink, kindSpecial, kindHardLink} {
		if int(k) != i+1 {
			t.Errorf("kind %v is %d on the wire, not as documented", k, k)
		}
	}
	if frameBye != 12 {
		t.Errorf("the last frame type is %d, not as documented", frameBye)
	}
	flat := strings.Join(strings.Fields(doc), " ")
	for _, w := range want {
		if !strings.Contains(doc, w) && !strings.Contains(flat, w) {
			t.Errorf("docs/sync-protocol.md does not say %q", w)
		}
	}
}

// grouped writes a number with commas between thousands.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
