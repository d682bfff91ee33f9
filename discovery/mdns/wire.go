package mdns

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// cacheFlush is the bit of a record's class by which it replaces all
	// others of its name and type: RFC 6762 section 10.2. In a question the
	// same bit asks for a unicast answer: section 5.4.
	cacheFlush = 1 << 15
	// typeANY asks for all types: RFC 6762 section 6.5.
	typeANY = dnsmessage.Type(255)
	// maxPacket is the largest packet that may arrive: RFC 6762 section 17.
	maxPacket = 9000
	// legacyTTL bounds the TTL in answers to resolvers that know DNS but not
	// multicast DNS: RFC 6762 section 6.7.
	legacyTTL = 10
)

// record is a resource record of one of the types that matter here. Names are
// in lower case, since they are compared without it (RFC 6762 section 16).
type record struct {
	name string
	typ  dnsmessage.Type
	// flush is the cache-flush bit.
	flush bool
	// ttl is in seconds.
	ttl uint32
	// target is the name that a PTR or SRV record points to.
	target string
	// port is that of an SRV record, priority and weight likewise. The latter
	// are 0 in ours.
	port, priority, weight uint16
	// txt are the strings of a TXT record.
	txt []string
	// addr is that of an A or AAAA record, without zone.
	addr netip.Addr
}

// key identifies a record by what it says, apart from its TTL.
func (r record) key() string {
	return fmt.Sprintf("%d %s %s %d %q %s", r.typ, r.name, r.target, r.port, r.txt, r.addr)
}

// question is a question of class IN.
type question struct {
	name string
	typ  dnsmessage.Type
}

// packet is what can be understood of a packet.
type packet struct {
	id uint16
	// response is true for answers, false for questions.
	response bool
	// truncated: more known answers follow (RFC 6762 section 7.2).
	truncated bool
	questions []question
	// answers are the records of the answer section, in a query the known
	// answers.
	answers []record
	// proposed are the authority records of a query, by which a probe says what
	// it is for: RFC 6762 section 8.2.
	proposed []record
	// others are the additional records.
	others []record
	// unreadable counts questions and records that were left out because the
	// parser cannot represent them, such as names with a dot inside a label.
	unreadable int
}

// errPacket is returned for packets that have no meaning as a whole.
var errPacket = errors.New("not a multicast DNS packet")

// parse reads a packet from the network. It leaves out what it cannot read and
// goes on behind it, so that one foreign record does not hide the others.
func parse(data []byte) (packet, error) {
	var p dnsmessage.Parser
	h, err := p.Start(data)
	if err != nil {
		return packet{}, fmt.Errorf("%w: %w", errPacket, err)
	}
	// RFC 6762 sections 18.3 and 18.11.
	if h.OpCode != 0 || h.RCode != 0 {
		return packet{}, fmt.Errorf("%w: opcode %d, rcode %d", errPacket, h.OpCode, h.RCode)
	}
	pkt := packet{id: h.ID, response: h.Response, truncated: h.Truncated}
	if err := pkt.readQuestions(&p); err != nil {
		return packet{}, err
	}
	if err = pkt.readRecords(&p, p.AnswerHeader, p.SkipAnswer, &pkt.answers); err != nil {
		return pkt, err
	}
	if !pkt.response {
		err = pkt.readRecords(&p, p.AuthorityHeader, p.SkipAuthority, &pkt.proposed)
		return pkt, err
	}
	if err := p.SkipAllAuthorities(); err != nil {
		return packet{}, fmt.Errorf("%w: %w", errPacket, err)
	}
	err = pkt.readRecords(&p, p.AdditionalHeader, p.SkipAdditional, &pkt.others)
	return pkt, err
}

func (pkt *packet) readQuestions(p *dnsmessage.Parser) error {
	for {
		q, err := p.Question()
		switch {
		case errors.Is(err, dnsmessage.ErrSectionDone):
			return nil
		case err != nil:
			pkt.unreadable++
			if err := p.SkipQuestion(); err != nil {
				return fmt.Errorf("%w: question: %w", errPacket, err)
			}
		case q.Class&^cacheFlush == dnsmessage.ClassINET || q.Class&^cacheFlush == dnsmessage.ClassANY:
			pkt.questions = append(pkt.questions, question{fold(q.Name), q.Type})
		}
	}
}

func (pkt *packet) readRecords(p *dnsmessage.Parser, header func() (dnsmessage.ResourceHeader, error), skip func() error, to *[]record) error {
	for {
		h, err := header()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return nil
		}
		if err == nil && relevant(h) {
			var r record
			if r, err = readBody(p, h); err == nil {
				*to = append(*to, r)
				continue
			}
		}
		if err != nil {
			pkt.unreadable++
		}
		if err := skip(); err != nil {
			return fmt.Errorf("%w: record: %w", errPacket, err)
		}
	}
}

// relevant reports whether a record is of the class and one of the types that
// are used here.
func relevant(h dnsmessage.ResourceHeader) bool {
	if h.Class&^cacheFlush != dnsmessage.ClassINET {
		return false
	}
	switch h.Type {
	case dnsmessage.TypePTR, dnsmessage.TypeSRV, dnsmessage.TypeTXT, dnsmessage.TypeA, dnsmessage.TypeAAAA:
		return true
	}
	return false
}

// readBody reads the body of a relevant record. After an error the parser still
// stands before it.
func readBody(p *dnsmessage.Parser, h dnsmessage.ResourceHeader) (record, error) {
	r := record{name: fold(h.Name), typ: h.Type, flush: h.Class&cacheFlush != 0, ttl: h.TTL}
	switch h.Type {
	case dnsmessage.TypePTR:
		b, err := p.PTRResource()
		r.target = fold(b.PTR)
		return r, err
	case dnsmessage.TypeSRV:
		b, err := p.SRVResource()
		r.target, r.port, r.priority, r.weight = fold(b.Target), b.Port, b.Priority, b.Weight
		return r, err
	case dnsmessage.TypeTXT:
		b, err := p.TXTResource()
		r.txt = b.TXT
		return r, err
	case dnsmessage.TypeA:
		b, err := p.AResource()
		r.addr = netip.AddrFrom4(b.A)
		return r, err
	default:
		b, err := p.AAAAResource()
		r.addr = netip.AddrFrom16(b.AAAA)
		return r, err
	}
}

// fold returns a name with its ASCII letters in lower case.
func fold(n dnsmessage.Name) string { return lower(n.String()) }

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// resource returns r for packing.
func (r record) resource() (dnsmessage.Resource, error) {
	name, err := dnsmessage.NewName(r.name)
	if err != nil {
		return dnsmessage.Resource{}, err
	}
	res := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: name, Type: r.typ, Class: dnsmessage.ClassINET, TTL: r.ttl}}
	if r.flush {
		res.Header.Class |= cacheFlush
	}
	switch r.typ {
	case dnsmessage.TypePTR, dnsmessage.TypeSRV:
		target, err := dnsmessage.NewName(r.target)
		if err != nil {
			return dnsmessage.Resource{}, err
		}
		if r.typ == dnsmessage.TypePTR {
			res.Body = &dnsmessage.PTRResource{PTR: target}
		} else {
			res.Body = &dnsmessage.SRVResource{Target: target, Port: r.port, Priority: r.priority, Weight: r.weight}
		}
	case dnsmessage.TypeTXT:
		res.Body = &dnsmessage.TXTResource{TXT: r.txt}
	case dnsmessage.TypeA:
		res.Body = &dnsmessage.AResource{A: r.addr.As4()}
	case dnsmessage.TypeAAAA:
		res.Body = &dnsmessage.AAAAResource{AAAA: r.addr.As16()}
	default:
		return dnsmessage.Resource{}, fmt.Errorf("record type %v cannot be packed", r.typ)
	}
	return res, nil
}

// pack returns pkt as it goes over the wire. Multicast packets have the id 0
// (RFC 6762 section 18.1), and responses the authoritative bit (18.4).
func (pkt packet) pack() ([]byte, error) {
	msg := dnsmessage.Message{Header: dnsmessage.Header{
		ID: pkt.id, Response: pkt.response, Authoritative: pkt.response, Truncated: pkt.truncated,
	}}
	for _, q := range pkt.questions {
		name, err := dnsmessage.NewName(q.name)
		if err != nil {
			return nil, err
		}
		msg.Questions = append(msg.Questions, dnsmessage.Question{Name: name, Type: q.typ, Class: dnsmessage.ClassINET})
	}
	for _, s := range []struct {
		from []record
		to   *[]dnsmessage.Resource
	}{{pkt.answers, &msg.Answers}, {pkt.proposed, &msg.Authorities}, {pkt.others, &msg.Additionals}} {
		for _, r := range s.from {
			res, err := r.resource()
			if err != nil {
				return nil, err
			}
			*s.to = append(*s.to, res)
		}
	}
	return msg.Pack()
}

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
