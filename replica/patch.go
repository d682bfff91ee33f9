package replica

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// difference returns what turns a manifest into another: the paths that go, and
// the entries that come or change, both sorted.
func difference(from, to *manifest) (removed []string, entries []entry) {
	var a, b []byte
	i := 0
	for _, e := range to.entries {
		for i < len(from.entries) && from.entries[i].path < e.path {
			removed = append(removed, from.entries[i].path)
			i++
		}
		if i < len(from.entries) && from.entries[i].path == e.path {
			a, b = appendEntry(a[:0], from.entries[i]), appendEntry(b[:0], e)
			i++
			if bytes.Equal(a, b) {
				continue
			}
		}
		entries = append(entries, e)
	}
	for ; i < len(from.entries); i++ {
		removed = append(removed, from.entries[i].path)
	}
	return removed, entries
}

// patch is the way from one manifest to another, as it arrives.
type patch struct {
	removed []string
	entries []entry
	bytes   int
	// within is a manifest that has all the paths that may come; nil where any may.
	within *manifest
}

// addRemoved decodes a frame of paths.
func (p *patch) addRemoved(payload []byte) error {
	if len(payload) == 0 || len(p.entries) > 0 {
		return unexpected(frameRemoved, len(payload))
	}
	for len(payload) > 0 {
		if len(payload) < 2 || len(payload) < 2+int(binary.BigEndian.Uint16(payload)) {
			return fmt.Errorf("%w: path cut off", ErrProtocol)
		}
		n := 2 + int(binary.BigEndian.Uint16(payload))
		path := string(payload[2:n])
		payload = payload[n:]
		if k := len(p.removed); k > 0 && path <= p.removed[k-1] {
			return fmt.Errorf("%w: removed paths out of order", ErrProtocol)
		}
		p.removed = append(p.removed, path)
		if err := p.grow(len(path)); err != nil {
			return err
		}
	}
	return nil
}

// addEntries decodes a frame of entries.
func (p *patch) addEntries(payload []byte) error {
	if len(payload) == 0 {
		return unexpected(frameEntries, 0)
	}
	for len(payload) > 0 {
		e, rest, err := cutEntry(payload)
		if err != nil {
			return err
		}
		if k := len(p.entries); k > 0 && e.path <= p.entries[k-1].path {
			return fmt.Errorf("%w: changed entries out of order", ErrProtocol)
		}
		if p.within != nil {
			if _, there := p.within.find(e.path); !there {
				return fmt.Errorf("%w: %q is changed, and was not announced", ErrProtocol, e.path)
			}
		}
		p.entries = append(p.entries, e)
		if err := p.grow(len(payload) - len(rest)); err != nil {
			return err
		}
		payload = rest
	}
	return nil
}

// grow refuses what is larger than two manifests can make it.
func (p *patch) grow(n int) error {
	p.bytes += n + 64
	if len(p.removed) > maxEntries || len(p.entries) > maxEntries || p.bytes > 2*maxManifestBytes {
		return fmt.Errorf("%w: more changes than a volume can have", ErrProtocol)
	}
	return nil
}

// apply returns the manifest that the patch makes of one.
func (p *patch) apply(from *manifest) (*manifest, error) {
	to := &manifest{keeps: from.keeps}
	add := func(e entry) error {
		if err := to.add(e); err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		return nil
	}
	removed, entries := p.removed, p.entries
	for _, e := range from.entries {
		for len(entries) > 0 && entries[0].path < e.path {
			if err := add(entries[0]); err != nil {
				return nil, err
			}
			entries = entries[1:]
		}
		gone := len(removed) > 0 && removed[0] == e.path
		if gone {
			removed = removed[1:]
		}
		if len(entries) > 0 && entries[0].path == e.path {
			e, entries, gone = entries[0], entries[1:], false
		}
		if gone {
			continue
		}
		if err := add(e); err != nil {
			return nil, err
		}
	}
	for _, e := range entries {
		if err := add(e); err != nil {
			return nil, err
		}
	}
	if len(removed) > 0 {
		return nil, fmt.Errorf("%w: %q was never there, and is removed", ErrProtocol, removed[0])
	}
	return to, nil
}

// without returns a manifest in which files of some contents are as they are in
// the copy, or are not, where the copy has no files.
func (m *manifest) without(missed map[digest]bool, local places) (*manifest, error) {
	kept := &manifest{keeps: m.keeps}
	names := make(map[fileID]string) // of what stays in the place of other names
	for _, e := range m.entries {
		out := e.kind == kindFile && missed[e.digest]
		link := false
		if e.kind == kindHardLink {
			_, first := kept.find(e.target)
			link = !first // the file came not, nor was there one in its place
		}
		if out || link {
			f, there := local.get(e.path)
			if !there || f.kind != kindFile || !f.hashed {
				continue
			}
			e = f.entry.only(m.keeps)
			if first, other := names[f.node.file]; link && other {
				e = entry{path: e.path, kind: kindHardLink, target: first}
			} else if link && f.node.links > 1 {
				names[f.node.file] = e.path
			}
		}
		if err := kept.add(e); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// entries sends entries, as many as fit into a frame at a time.
func (w *wire) entries(entries []entry) error {
	var frame []byte
	for _, e := range entries {
		start := len(frame)
		frame = appendEntry(frame, e)
		if len(frame) > maxFrame {
			if err := w.write(frameEntries, frame[:start]); err != nil {
				return err
			}
			frame = append(frame[:0], frame[start:]...)
		}
	}
	if len(frame) == 0 {
		return nil
	}
	return w.write(frameEntries, frame)
}

// seal ends a manifest, or what turns another into it.
func (w *wire) seal(m *manifest, sum digest) error {
	return w.write(frameManifest, binary.BigEndian.AppendUint32(nil, uint32(len(m.entries))), sum[:])
}

// difference sends what turns one manifest into another.
func (w *wire) difference(from, to *manifest) error {
	removed, entries := difference(from, to)
	var frame []byte
	for _, path := range removed {
		if len(frame)+2+len(path) > maxFrame {
			if err := w.write(frameRemoved, frame); err != nil {
				return err
			}
			frame = frame[:0]
		}
		frame = binary.BigEndian.AppendUint16(frame, uint16(len(path)))
		frame = append(frame, path...)
	}
	if len(frame) > 0 {
		if err := w.write(frameRemoved, frame); err != nil {
			return err
		}
	}
	return w.entries(entries)
}

// patched reads the rest of what turns a manifest into another, and returns that.
func (w *wire) patched(from *manifest, kind byte, payload []byte) (*manifest, error) {
	return w.patchedBy(&patch{}, from, kind, payload)
}

// instead does so of what a receiver has instead of what was announced: that may be less
// of it, or otherwise, and no more.
func (w *wire) instead(announced *manifest, kind byte, payload []byte) (*manifest, error) {
	return w.patchedBy(&patch{within: announced}, announced, kind, payload)
}

func (w *wire) patchedBy(p *patch, from *manifest, kind byte, payload []byte) (*manifest, error) {
	for {
		var err error
		switch kind {
		case frameRemoved:
			err = p.addRemoved(payload)
		case frameEntries:
			err = p.addEntries(payload)
		case frameManifest:
			return p.seal(from, payload)
		default:
			err = unexpected(kind, len(payload))
		}
		if err != nil {
			return nil, err
		}
		if kind, payload, err = w.read(); err != nil {
			return nil, err
		}
	}
}

// seal checks that the patch makes what the other side says.
func (p *patch) seal(from *manifest, payload []byte) (*manifest, error) {
	if len(payload) != 4+len(digest{}) {
		return nil, unexpected(frameManifest, len(payload))
	}
	to, err := p.apply(from)
	if err != nil {
		return nil, err
	}
	if len(to.entries) == 0 || int64(binary.BigEndian.Uint32(payload)) != int64(len(to.entries)) || digest(payload[4:]) != to.digest() {
		return nil, fmt.Errorf("%w: the manifest does not have the entries or the digest that it says", ErrProtocol)
	}
	return to, nil
}
