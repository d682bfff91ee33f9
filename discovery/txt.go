package discovery

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/budgiehq/budgie/bunfile"
)

// TXTVersion is the version of the TXT format that this package writes and
// reads. It is the value of the key "v", the first string of every record, as
// RFC 6763 section 6.7 recommends.
const TXTVersion = 1

// Limits of an announcement.
const (
	// MaxTXT is the size in bytes that an encoded record, its length bytes
	// included, stays below. RFC 6763 section 6.2 recommends to keep it under
	// 1300 bytes, so that the record fits into one Ethernet packet.
	MaxTXT = 1200
	// MaxImage is the length of an image reference in bytes. It is what the
	// longest reference takes: a name of 255 bytes, a tag of 128 and a SHA-512
	// digest of 135, with their separators.
	MaxImage = 520
	// MaxPorts is how many ports one service can announce.
	MaxPorts = 1024
	// maxToken is the length of the ids other than the replica's own, enough
	// for a SHA-256 in hexadecimal with a prefix.
	maxToken = 80
	// maxString is the length of one string of a TXT record, which has a
	// length byte: RFC 1035 section 3.3.
	maxString = 255
)

// The keys. RFC 6763 section 6.4: at most nine characters.
const (
	keyVersion = "v"
	keyID      = "id"
	keyService = "sid"
	keyName    = "name"
	keyNode    = "node"
	keyFlock   = "flock"
	keyImage   = "image"
	keyPorts   = "ports"
	keyHost    = "host"
)

// EncodeTXT returns the strings of the DNS-SD TXT record that announces svc,
// or ErrInvalid with the rule that svc breaks. Addresses and the peer port are
// checked but not encoded: A, AAAA and SRV records carry them.
//
// Each string is "key=value" (RFC 6763 section 6.3), the version first. A value
// that one string cannot hold is continued under its key with 1, 2 … appended:
// image, image1, image2. Nothing is ever cut short: a service that does not fit
// into MaxTXT bytes is invalid. Ports are written as in
// "80:8080/http,53:5353/udp", container port first; neighbours that count up
// together are written once, with the number of those that follow:
// "30000+99:30000/tcp" is a hundred ports.
func EncodeTXT(svc Service) ([]string, error) {
	if err := validate(svc); err != nil {
		return nil, err
	}
	txt := []string{
		keyVersion + "=" + strconv.Itoa(TXTVersion),
		keyID + "=" + svc.ID,
		keyService + "=" + svc.ServiceID,
		keyName + "=" + svc.Name,
		keyNode + "=" + svc.Node,
	}
	if svc.Flock != "" {
		txt = append(txt, keyFlock+"="+svc.Flock)
	}
	if svc.Host {
		txt = append(txt, keyHost+"="+hostYes)
	}
	txt = appendValue(txt, keyImage, svc.Image)
	txt = appendValue(txt, keyPorts, encodePorts(svc.Ports))
	if n := wireSize(txt); n >= MaxTXT {
		return nil, fmt.Errorf("%w %q: its announcement takes %d bytes, and fewer than %d are allowed: publish fewer ports, or ports in sequence",
			ErrInvalid, svc.Name, n, MaxTXT)
	}
	return txt, nil
}

// DecodeTXT returns the service that the strings of a TXT record announce,
// without addresses and peer port. It accepts exactly what EncodeTXT could
// have written, plus unknown keys, which it ignores, and returns ErrInvalid for
// everything else, other versions included.
func DecodeTXT(txt []string) (Service, error) {
	if n := wireSize(txt); n >= MaxTXT {
		return Service{}, fmt.Errorf("%w: TXT record of %d bytes, and fewer than %d are allowed", ErrInvalid, n, MaxTXT)
	}
	values, err := splitTXT(txt)
	if err != nil {
		return Service{}, err
	}
	v, ok := values[keyVersion]
	if !ok {
		return Service{}, fmt.Errorf("%w: TXT record without a version (%s=%d)", ErrInvalid, keyVersion, TXTVersion)
	}
	if v != strconv.Itoa(TXTVersion) {
		return Service{}, fmt.Errorf("%w: TXT record of version %q, and only %d is known", ErrInvalid, v, TXTVersion)
	}
	svc := Service{
		ID:        values[keyID],
		ServiceID: values[keyService],
		Name:      values[keyName],
		Node:      values[keyNode],
		Flock:     values[keyFlock],
		Image:     joinValue(values, keyImage),
	}
	if svc.Ports, err = decodePorts(joinValue(values, keyPorts)); err != nil {
		return Service{}, err
	}
	switch host, said := values[keyHost]; {
	case said && host != hostYes:
		return Service{}, fmt.Errorf("%w: %s=%q, and only %s is known", ErrInvalid, keyHost, host, hostYes)
	case said:
		svc.Host = true
	}
	if err := validate(svc); err != nil {
		return Service{}, err
	}
	return svc, nil
}

// hostYes is the value of keyHost for a host; others have none.
const hostYes = "1"

// wireSize is what the strings take in a packet.
func wireSize(txt []string) int {
	n := 0
	for _, s := range txt {
		n += 1 + len(s)
	}
	return n
}

// appendValue appends a value as as many strings as it takes, none if empty.
func appendValue(txt []string, key, value string) []string {
	for part := 0; value != ""; part++ {
		prefix := partKey(key, part) + "="
		n := min(len(value), maxString-len(prefix))
		txt = append(txt, prefix+value[:n])
		value = value[n:]
	}
	return txt
}

// joinValue puts together what appendValue took apart.
func joinValue(values map[string]string, key string) string {
	var b strings.Builder
	for part := 0; ; part++ {
		v, ok := values[partKey(key, part)]
		if !ok {
			return b.String()
		}
		b.WriteString(v)
	}
}

func partKey(key string, part int) string {
	if part == 0 {
		return key
	}
	return key + strconv.Itoa(part)
}

// splitTXT returns the values by key. RFC 6763 section 6.4: keys are compared
// without case, of several strings with one key the first counts, a string
// without a key is ignored, and so is the empty one (section 6.1).
func splitTXT(txt []string) (map[string]string, error) {
	values := make(map[string]string, len(txt))
	for _, s := range txt {
		if len(s) > maxString {
			return nil, fmt.Errorf("%w: TXT string of %d bytes, and %d are allowed", ErrInvalid, len(s), maxString)
		}
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			continue
		}
		key = strings.ToLower(key)
		if _, seen := values[key]; !seen {
			values[key] = value
		}
	}
	return values, nil
}

// The forms of a port's last part.
const (
	protocolTCP  = "tcp"
	protocolUDP  = "udp"
	protocolHTTP = "http"
)

func portWord(p Port) string {
	switch {
	case p.HTTP:
		return protocolHTTP
	case p.Protocol == bunfile.UDP:
		return protocolUDP
	}
	return protocolTCP
}

// follows reports whether q is the port that comes n places after p.
func follows(p, q Port, n int) bool {
	p.ContainerPort += n
	p.HostPort += n
	return p == q
}

func encodePorts(ports []Port) string {
	var b strings.Builder
	for i := 0; i < len(ports); {
		first, n := ports[i], 1
		for i+n < len(ports) && follows(first, ports[i+n], n) {
			n++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(first.ContainerPort))
		if n > 1 {
			b.WriteString("+" + strconv.Itoa(n-1))
		}
		b.WriteString(":" + strconv.Itoa(first.HostPort) + "/" + portWord(first))
		i += n
	}
	return b.String()
}

func decodePorts(s string) ([]Port, error) {
	var ports []Port
	for s != "" {
		var one string
		var more bool
		one, s, more = strings.Cut(s, ",")
		if more && s == "" {
			return nil, fmt.Errorf("%w: ports end in a comma", ErrInvalid)
		}
		first, following, err := decodePort(one)
		if err != nil {
			return nil, err
		}
		if len(ports)+1+following > MaxPorts {
			return nil, fmt.Errorf("%w: more than %d ports", ErrInvalid, MaxPorts)
		}
		for n := range following + 1 {
			p := first
			p.ContainerPort += n
			p.HostPort += n
			ports = append(ports, p)
		}
	}
	return ports, nil
}

// decodePort reads one entry and how many ports follow in sequence.
func decodePort(s string) (first Port, following int, err error) {
	bad := func() (Port, int, error) {
		return Port{}, 0, fmt.Errorf("%w: port %q is not of the form 80:8080/tcp", ErrInvalid, s)
	}
	numbers, word, ok := strings.Cut(s, "/")
	container, host, ok2 := strings.Cut(numbers, ":")
	if !ok || !ok2 {
		return bad()
	}
	container, count, run := strings.Cut(container, "+")
	if run {
		if following, ok = number(count); !ok || following == 0 {
			return bad()
		}
	}
	switch word {
	case protocolTCP:
		first.Protocol = bunfile.TCP
	case protocolUDP:
		first.Protocol = bunfile.UDP
	case protocolHTTP:
		first.Protocol, first.HTTP = bunfile.TCP, true
	default:
		return bad()
	}
	if first.ContainerPort, ok = number(container); !ok {
		return bad()
	}
	if first.HostPort, ok = number(host); !ok {
		return bad()
	}
	return first, following, nil
}

// number reads a decimal number below 65536 as strconv writes it: no sign, no
// leading zeros.
func number(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err == nil && strconv.FormatUint(n, 10) == s
}
