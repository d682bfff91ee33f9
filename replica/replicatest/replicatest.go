// Package replicatest holds the conformance suite of syncers and a fake that
// passes it.
//
//	func TestConformance(t *testing.T) {
//		replicatest.Run(t, func(t *testing.T) replicatest.Syncer { return replica.New() })
//	}
package replicatest

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica"
)

// Syncer is what the suite tests, method for method the root package's
// interface of that name, which says what the methods promise.
type Syncer interface {
	Send(ctx context.Context, conn io.ReadWriter, dir string) (replica.Report, error)
	Receive(ctx context.Context, conn io.ReadWriter, dir string, opts replica.ReceiveOptions) (replica.Report, error)
	Follow(ctx context.Context, conn io.ReadWriter, dir string, opts replica.FollowOptions) error
}

// patience bounds what must not take long; a suite that hangs says where.
const patience = 30 * time.Second

// Run tests the syncers that make returns. It needs a file system with Unix
// modes and symbolic links below t.TempDir.
func Run(t *testing.T, make func(t *testing.T) Syncer) {
	t.Helper()
	tests := []struct {
		name string
		test func(t *testing.T, s Syncer)
	}{
		{"CopiesEveryKindOfEntry", testKinds},
		{"CopiesAnEmptyVolume", testEmpty},
		{"CopiesLargeFiles", testLarge},
		{"CarriesModesAndTimes", testMetadata},
		{"CarriesOwners", testOwners},
		{"CarriesExtendedAttributes", testXattrs},
		{"KeepsHardLinks", testHardLinks},
		{"KeepsHoles", testHoles},
		{"UnlocksTheCopy", testLocked},
		{"KeepsUnusualNames", testNames},
		{"RemovesWhatTheSourceDoesNotHave", testRemoves},
		{"EmptiesNoCopy", testEmptied},
		{"ReplacesOneKindByAnother", testReplaces},
		{"RepeatsWithoutTransfer", testRepeat},
		{"NeverFollowsLinks", testLinks},
		{"SkipsSpecialFiles", testSpecial},
		{"NeverChangesTheSource", testSourceUntouched},
		{"DigestIdentifiesContent", testDigest},
		{"MissingSourceHarmsNoCopy", testMissingSource},
		{"CutConnectionLeavesOldOrNew", testCut},
		{"EndOfContextInterrupts", testContext},
		{"CopiesConcurrently", testConcurrent},
		{"ConnectionServesAgain", testSecondCopy},
		{"FollowsChanges", testFollows},
		{"TellsItsProgress", testProgress},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, make(t)) })
	}
}

// result is what one side of a copy returned.
type result struct {
	report replica.Report
	err    error
}

// Copy runs both sides of one copy from src to dst, over a connection in
// memory, and returns what each returned. It is for tests of syncers and of
// what uses them.
func Copy(ctx context.Context, s Syncer, src, dst string) (sent, received replica.Report, err error) {
	here, there := net.Pipe()
	a, b := copyOver(ctx, s, here, there, src, dst)
	return a.report, b.report, errors.Join(a.err, b.err)
}

// copyOver runs both sides over a connection, of which each side closes its
// end when it has failed.
func copyOver(ctx context.Context, s Syncer, here, there io.ReadWriteCloser, src, dst string) (sent, received result) {
	return copyWith(ctx, s, here, there, src, dst, replica.ReceiveOptions{})
}

// copyWith does so with options.
func copyWith(ctx context.Context, s Syncer, here, there io.ReadWriteCloser, src, dst string, opts replica.ReceiveOptions) (sent, received result) {
	var wg sync.WaitGroup
	wg.Go(func() {
		sent.report, sent.err = s.Send(ctx, here, src)
		if sent.err != nil {
			_ = here.Close()
		}
	})
	received.report, received.err = s.Receive(ctx, there, dst, opts)
	if received.err != nil {
		_ = there.Close()
	}
	wg.Wait()
	return sent, received
}

// mustCopy copies, and checks that the copy is equal and both reports agree.
func mustCopy(t *testing.T, s Syncer, src, dst string) replica.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sent, received, err := Copy(ctx, s, src, dst)
	if err != nil {
		t.Fatalf("copy: %v", err)
	}
	if diff := Diff(src, dst); diff != "" {
		t.Fatalf("the copy differs from its source: %s", diff)
	}
	if sent.Digest == "" || sent.Digest != received.Digest {
		t.Errorf("digests: sender %q, receiver %q", sent.Digest, received.Digest)
	}
	if sent.Files != received.Files || sent.Bytes != received.Bytes || sent.Transferred != received.Transferred || sent.Removed != received.Removed {
		t.Errorf("reports differ: sender %+v, receiver %+v", sent, received)
	}
	return received
}

// dirs returns an empty source and the path of a copy that does not exist.
func dirs(t *testing.T) (src, dst string) {
	t.Helper()
	base := t.TempDir()
	src = filepath.Join(base, "source")
	Build(t, src, Tree{"": {Mode: 0o755}})
	return src, filepath.Join(base, "volumes", "copy")
}
