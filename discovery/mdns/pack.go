package mdns

import (
	"encoding/binary"
	"strings"
	"time"
)

// group is a set of records that belong together: answers, and what those who
// read the answers will ask for next.
type group struct{ answers, others []record }

// packResponses packs groups into as few packets of at most size bytes as
// simple filling gives. A group that is too large alone is spread over packets,
// record by record; a record that is too large alone goes alone (RFC 6762
// section 17).
func packResponses(groups []group, size int) ([][]byte, error) {
	var f filler
	for _, g := range groups {
		alone := packet{response: true, answers: g.answers, others: g.others}
		raw, err := alone.pack()
		if err != nil {
			return nil, err
		}
		if len(raw) <= size {
			if err := f.add(g, size); err != nil {
				return nil, err
			}
			continue
		}
		for _, r := range append(append([]record(nil), g.answers...), g.others...) {
			if err := f.add(group{answers: []record{r}}, size); err != nil {
				return nil, err
			}
		}
	}
	f.flush()
	return f.done, nil
}

// filler fills response packets.
type filler struct {
	done [][]byte
	now  packet
	raw  []byte
}

func (f *filler) add(g group, size int) error {
	next := packet{
		response: true,
		answers:  append(append([]record(nil), f.now.answers...), g.answers...),
		others:   append(append([]record(nil), f.now.others...), g.others...),
	}
	raw, err := next.pack()
	if err != nil {
		return err
	}
	if len(raw) > size && f.raw != nil {
		f.flush()
		return f.add(g, size)
	}
	f.now, f.raw = next, raw
	return nil
}

func (f *filler) flush() {
	if f.raw != nil {
		f.done = append(f.done, f.raw)
	}
	f.now, f.raw = packet{}, nil
}

// packQuery packs questions and known answers. Known answers that do not fit
// follow in packets without questions, and all but the last are marked as
// truncated: RFC 6762 section 7.2.
func packQuery(questions []question, known []record, size int) ([][]byte, error) {
	var done [][]byte
	now := packet{questions: questions}
	raw, err := now.pack()
	if err != nil {
		return nil, err
	}
	for _, k := range known {
		next := now
		next.answers = append(append([]record(nil), now.answers...), k)
		nextRaw, err := next.pack()
		if err != nil {
			return nil, err
		}
		if len(nextRaw) > size && (len(now.answers) > 0 || len(now.questions) > 0) {
			now.truncated = true
			if raw, err = now.pack(); err != nil {
				return nil, err
			}
			done = append(done, raw)
			next = packet{answers: []record{k}}
			if nextRaw, err = next.pack(); err != nil {
				return nil, err
			}
		}
		now, raw = next, nextRaw
	}
	return append(done, raw), nil
}

// seconds returns a duration as a TTL.
func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }

// rdata is what a record says, as it goes over the wire, without compression.
func (r record) rdata() []byte {
	var b []byte
	switch r.typ {
	case typeNSEC:
		// RFC 4034 section 4.1, as RFC 6762 section 6.1 restricts it: the name
		// itself, and one block of a bitmap.
		var bits [32]byte
		last := 0
		for _, t := range r.types {
			last = int(t) / 8
			bits[last] |= 0x80 >> (t % 8)
		}
		return append(append(appendName(nil, r.name), 0, byte(last+1)), bits[:last+1]...)
	case typeA, typeAAAA:
		return r.addr.AsSlice()
	case typeTXT:
		for _, s := range r.txt {
			b = append(append(b, byte(len(s))), s...)
		}
		return b
	case typeSRV:
		b = binary.BigEndian.AppendUint16(b, r.priority)
		b = binary.BigEndian.AppendUint16(b, r.weight)
		b = binary.BigEndian.AppendUint16(b, r.port)
	}
	return appendName(b, r.target)
}

// appendName appends a name as it goes over the wire, without compression.
func appendName(b []byte, name string) []byte {
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0)
}
