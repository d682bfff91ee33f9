package bunfile

import (
	"fmt"
	"regexp"
)

// fieldName is a token, RFC 9110 section 5.6.2: what names headers and cookies.
var fieldName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

func (f *findings) checkBalance(s *Spec) {
	b := s.Balance
	f.checkAlgorithm(b.Algorithm)
	f.oneOf("balance.mode", string(b.Mode), string(ModeAuto), string(ModeHTTP), string(ModeTCP))
	f.oneOf("balance.protocol", string(b.Protocol), string(ProtocolAuto), string(ProtocolH2C))
	f.oneOf("balance.prefer", string(b.Prefer), string(PreferAny), string(PreferLocal))
	if b.Protocol == ProtocolH2C {
		f.checkModeHTTP(s, "balance.protocol", "passes on what clients send", "write mode: http, or delete the key")
	}
	if b.SlowStart < 0 {
		f.add("balance.slow_start", fmt.Sprintf("%s is less than nothing: want 0 or more", b.SlowStart), "")
	}
	if b.Weight != 0 {
		f.number("balance.weight", int64(b.Weight), weights)
	}
	h := b.Hash
	if h == (Hash{}) {
		return
	}
	if b.Algorithm != ConsistentHash {
		f.relying([]string{"balance.algorithm"}, "balance.hash",
			fmt.Sprintf("only the algorithm %s has a hash", ConsistentHash), fmt.Sprintf("add algorithm: %s, or delete the key", ConsistentHash))
	}
	if h.Header != "" && h.Cookie != "" {
		f.add("balance.hash", "there are a header and a cookie: want one of them", "")
	}
	f.checkFieldName("balance.hash.header", h.Header, "header")
	f.checkFieldName("balance.hash.cookie", h.Cookie, "cookie")
	f.checkModeHTTP(s, "balance.hash", "has neither headers nor cookies", "write mode: http, or delete the key to go by the client's address")
}

// checkModeHTTP refuses a key of mode http in mode tcp, of which why says what
// makes it meaningless there.
func (f *findings) checkModeHTTP(s *Spec, path, why, hint string) {
	switch {
	case s.Balance.Mode == ModeTCP:
		f.add(path, "the mode is tcp, and "+why, hint)
	case (s.Balance.Mode == "" || s.Balance.Mode == ModeAuto) && (s.Healthcheck == nil || s.Healthcheck.Path == ""):
		f.relying([]string{"balance.mode", "healthcheck", "healthcheck.path"}, path,
			"the mode is tcp, since no healthcheck.path says otherwise, and "+why, hint)
	}
}

func (f *findings) checkFieldName(path, name, what string) {
	if name != "" && !fieldName.MatchString(name) {
		f.add(path, fmt.Sprintf("%s is not the name of a %s: want letters, digits and -_", quote(name), what), "")
	}
}

func (f *findings) checkAlgorithm(a Algorithm) {
	all := Algorithms()
	words := make([]string, len(all))
	for i, known := range all {
		words[i] = string(known)
	}
	before := len(*f)
	f.oneOf("balance.algorithm", string(a), words...)
	if len(*f) == before {
		return
	}
	if ours, ok := foreignAlgorithms()[fold(string(a))]; ok {
		(*f)[before].hint = fmt.Sprintf("did you mean %s?", ours)
	}
}

// foreignAlgorithms are the names that other proxies have, folded.
func foreignAlgorithms() map[string]Algorithm {
	return map[string]Algorithm{
		"ewma":               PowerOfTwo,
		"hash":               ConsistentHash,
		"iphash":             ConsistentHash,
		"leastconn":          LeastConnections,
		"leastlatency":       PowerOfTwo,
		"leastrequest":       LeastConnections,
		"leasttime":          PowerOfTwo,
		"maglev":             ConsistentHash,
		"p2c":                PowerOfTwo,
		"peakewma":           PowerOfTwo,
		"random":             PowerOfTwo,
		"ringhash":           ConsistentHash,
		"rr":                 RoundRobin,
		"source":             ConsistentHash,
		"sticky":             ConsistentHash,
		"weightedroundrobin": Weighted,
		"wrr":                Weighted,
	}
}
