package mdns

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// cacheFlush is the bit of a record's class by which it replaces all
	// others of its name and type: RFC 6762 section 10.2. In a question the
	// same bit asks for a unicast answer: section 5.4.
	cacheFlush = 1 << 15
	// typeANY asks for all types: RFC 6762 section 6.5.
	typeANY = dnsmessage.Type(255)
	// typeNSEC says which types a name has: RFC 6762 section 6.1.
	typeNSEC = dnsmessage.Type(47)
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
	// types are those of an NSEC record, in order, each below 256.
	types []dnsmessage.Type
}

// key identifies a record by what it says, apart from its TTL.
func (r record) key() string {
	return fmt.Sprintf("%d %s %s %d %q %s %d", r.typ, r.name, r.target, r.port, r.txt, r.addr, r.types)
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
	// unicast: all questions ask for unicast answers (RFC 6762 section 5.4).
	unicast bool
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
	multicast := 0
	for {
		q, err := p.Question()
		switch {
		case errors.Is(err, dnsmessage.ErrSectionDone):
			pkt.unicast = len(pkt.questions) > 0 && multicast == 0
			return nil
		case err != nil:
			pkt.unreadable++
			if err := p.SkipQuestion(); err != nil {
				return fmt.Errorf("%w: question: %w", errPacket, err)
			}
		case q.Class&^cacheFlush == dnsmessage.ClassINET || q.Class&^cacheFlush == dnsmessage.ClassANY:
			pkt.questions = append(pkt.questions, question{fold(q.Name), q.Type})
			if q.Class&cacheFlush == 0 {
				multicast++
			}
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
	case typeNSEC:
		res.Body = &dnsmessage.UnknownResource{Type: typeNSEC, Data: r.rdata()}
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
		class := dnsmessage.Class(dnsmessage.ClassINET)
		if pkt.unicast {
			class |= cacheFlush
		}
		msg.Questions = append(msg.Questions, dnsmessage.Question{Name: name, Type: q.typ, Class: class})
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
