package replica

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/replica/internal/delta"
)

// The document says of every frame and limit what the code does.
func TestProtocolDocumentIsRight(t *testing.T) {
	text, err := os.ReadFile("../docs/sync-protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	kib, mib := fmt.Sprintf("Files of %d KiB and more", deltaFrom>>10), fmt.Sprintf("files of %d MiB and more", askFrom>>20)
	patience := fmt.Sprintf("nothing at all for %d seconds", int(defaultSilence.Seconds()))
	want := []string{kib, mib, patience, fmt.Sprintf("version %d\n", maxVersion), "`" + magic + "`", "`" + temporaryPrefix + "`",
		fmt.Sprintf("number %d", leftPaths), fmt.Sprintf("%d bytes", mostLeftPath)}
	for i, name := range []string{"hello", "error", "entries", "manifest", "want", "wantEnd", "data", "fileEnd", "again", "done", "verified", "bye", "next", "idle", "removed", "hold"} {
		want = append(want, fmt.Sprintf("| %d | %s |", int(frameHello)+i, name))
	}
	for i, name := range []string{"keeps", "leftOut", "zeros", "have", "copy", "chunks", "chunkList", "packed", "same", "since"} {
		want = append(want, fmt.Sprintf("| %d | %s |", int(frameKeeps)+i, name))
	}
	for what, limit := range map[string]int64{
		"| entries | %s |": maxEntries, "together | %s bytes |": maxManifestBytes,
		"| path | %s bytes |": maxPath, "| name | %s bytes |": maxName, "| depth | %s |": maxDepth,
		"link | %s bytes |": maxTarget, "encoded | %s bytes |": maxXattrs, "| file | %s bytes |": maxFileSize,
		"session | %s |": maxRounds, "at most %s bytes; a longer": maxFrame, "text (at most %s bytes)": maxErrorText,
		"there are at most %s. A range": delta.MaxChunks, "at least %s bytes for each": int64(delta.Class(0).Min()),
	} {
		want = append(want, fmt.Sprintf(what, grouped(limit)))
	}
	for i, k := range []kind{kindDir, kindFile, kindSymlink, kindSpecial, kindHardLink, kindUnread} {
		if int(k) != i+1 {
			t.Errorf("kind %v is %d on the wire, not as documented", k, k)
		}
	}
	if frameHold != 16 || framePacked != 39 || frameSame != 40 || frameSince != 41 {
		t.Errorf("frame types are %d, %d, %d and %d, not as documented", frameHold, framePacked, frameSame, frameSince)
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
