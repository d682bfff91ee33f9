// Package replica copies the volumes of a service from the node that owns
// them to the nodes that join it, and keeps the copies as their source is, over
// connections that the caller made and trusts.
//
// [Copier.Send] is for the owner. [Copier.Receive] makes a copy once and whole: it
// asks for the files whose content it has nowhere in its copy, so what was renamed
// or moved is not sent again. Of large files that changed it gets what changed: the
// sender knows the chunks of what it sent before (package delta). It writes each to a temporary file, checks its
// SHA-256, syncs it and renames it into place. Once everything is there, Receive
// removes what the source does not have, reads its copy again, and both sides
// compare the digest of the whole, which each computed from its own files.
//
// [Copier.Follow] does the same, and then takes over what changes: the sender
// watches its directory (package watch), looks again at what may have changed, and
// sends the difference. A source that is gone, empty, or has lost much suspends a
// copy that follows ([WithMaxLoss]). With [Remember] the copy knows what it was: what
// something else than the source wrote into it is set aside and reported, and what
// the source replaces is kept for a while.
//
// Carried are directories, empty ones too, files, symbolic links as they are,
// modification times to the nanosecond, from 1678 to 2262 (others become the nearest),
// permission and sticky bits; where the
// receiver can keep them, which takes root, also numeric owners and groups and
// with them set-user-ID and set-group-ID bits; on Linux also the extended
// attributes user.*, access control lists, and for root security.capability and
// trusted.*, of files and directories; hard links between names in the volume.
// Other attributes, and those of symbolic links, are not. What the receiver cannot
// keep is left out and reported. On Linux a hole in a file stays one where its
// content is copied. Sockets, devices and pipes are skipped and reported. A file
// system that is mounted inside the volume is part of it. The copy
// of an empty source is empty, but a copy that holds something is not emptied.
//
// What travels is compressed where a trial says that it pays, and the other side is
// new enough.
//
// The receiver works below its directory through [os.Root]: no name and no
// link leads out of it, whatever the sender says. Every size that the other
// side names has a limit, see wire.go for them and for the protocol. Volumes
// of up to 1,048,576 entries can be copied; 100,000 files take 70 to 140 MB
// of memory on either side, and lists of chunks 32 MiB per sending Copier. Nothing else should write into the copy: what does is
// noticed (ErrVerify, or a [Conflict]) or overwritten. Changes of the source are seen
// by its files' times, and by their content where those are fresh; writes through
// memory maps may be seen late.
//
// After a success of Receive each file of the copy is what the source had at one
// moment between the beginning and the end of Send, and all of them are at the same
// one, unless the source did not hold still for as long as that takes, again and
// again.
//
// On Windows, which has no Unix modes, all methods return
// errors.ErrUnsupported.
package replica

import "errors"

// Errors of this package.
var (
	// ErrProtocol: the other side sent what the protocol does not allow.
	ErrProtocol = errors.New("volume sync protocol violation")
	// ErrVersion: the other side speaks a protocol version that this one does
	// not.
	ErrVersion = errors.New("volume sync protocol version not supported")
	// ErrChanged: the source changed while it was read, again and again.
	ErrChanged = errors.New("source keeps changing while it is read")
	// ErrEmptied: the source is empty and the copy is not. It may have been
	// unmounted. Nothing of the copy is removed; where it is to be empty, empty it
	// first.
	ErrEmptied = errors.New("source is empty, and its copy is not: it may be unmounted")
	// ErrLoss: the source has lost much of what the copy has.
	ErrLoss = errors.New("source has lost too many of the copy's files at once")
	// ErrGone: the source's directory is not there, or is another one.
	ErrGone = errors.New("source is gone")
	// ErrSilent: the source, which has nothing to send, does not say so.
	ErrSilent = errors.New("source is silent")
	// ErrNames: the file system of the copy cannot keep the names of the source: it
	// takes two of them for one, or spells one in its own way. The text has both.
	ErrNames = errors.New("file system cannot tell names apart or keep them")
	// ErrConflicts: more was set aside, of what something else than the source wrote
	// into the copy, than [Remember] allows.
	ErrConflicts = errors.New("a copy stays as it is, since something else writes into it")
	// ErrBusy: another process, or another Copier that remembers, receives into the
	// same copy.
	ErrBusy = errors.New("a copy is busy")
	// ErrVerify: what arrived is not what the sender has.
	ErrVerify = errors.New("copy differs from its source")
)

// Report says what a finished copy consisted of.
type Report struct {
	// Files is the number of files, directories and links in the volume.
	Files int
	// Bytes is the size of all files together.
	Bytes int64
	// Transferred is the number of file bytes that had to be sent, without those that
	// the copy had in an earlier version of the file.
	Transferred int64
	// Removed is the number of entries that were removed from the copy.
	Removed int
	// Skipped names what the source could not read, of which the copy keeps what it
	// has, and special files (sockets, devices, pipes), which are not
	// copied.
	Skipped []string
	// Conflicts are what was found in the copy that its source had not brought
	// there, and was kept aside; without [Remember] none are.
	Conflicts []Conflict
	// Mended names the files of the copy whose content was not the source's although
	// their size and time were: a disk, or something else, had spoiled them. Only
	// [Copier.Receive] says so.
	Mended []string
	// NotKept says of owners, attributes and the like that the source has and
	// the receiver cannot keep, in words, how often and where they were left out:
	// its user may not set them, or its file system has none. It is empty where
	// the copy is like its source in everything.
	NotKept []string
	// Digest identifies the volume's content: both sides have computed it
	// independently.
	Digest string
}
