package replica

import (
	"encoding/binary"
	"maps"
	"slices"
)

// ask sends which files are wanted, and what the copy has in places of theirs.
func (r *receiver) ask(wanted []uint32, has map[uint32]found) error {
	var frame []byte
	add := func(kind byte, more ...byte) error {
		if len(frame)+len(more) > maxFrame || len(more) == 0 && len(frame) > 0 {
			if err := r.wire.write(kind, frame); err != nil {
				return err
			}
			frame = frame[:0]
		}
		frame = append(frame, more...)
		return nil
	}
	for _, i := range wanted {
		if err := add(frameWant, binary.BigEndian.AppendUint32(nil, i)...); err != nil {
			return err
		}
	}
	if err := add(frameWant); err != nil {
		return err
	}
	for _, i := range slices.Sorted(maps.Keys(has)) {
		d := has[i].digest
		if err := add(frameHave, append(binary.BigEndian.AppendUint32(nil, i), d[:]...)...); err != nil {
			return err
		}
	}
	if err := add(frameHave); err != nil {
		return err
	}
	follows := byte(0)
	if r.following != nil {
		follows = 1
	}
	if err := r.wire.write(frameWantEnd, []byte{follows}); err != nil {
		return err
	}
	return r.wire.flush()
}

// places returns what the copy has in the places of wanted files, of those whose
// changes are worth asking for.
func (r *receiver) places(wanted []uint32) map[uint32]found {
	has := make(map[uint32]found)
	for _, i := range wanted {
		e := r.m.entries[i]
		f := r.copy.local.at(e.path)
		if e.size >= deltaFrom && f.kind == kindFile && f.hashed && f.size >= deltaFrom {
			has[i] = f
		}
	}
	return has
}
