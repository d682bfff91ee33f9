package discovery

import (
	"fmt"
	"strings"

	"github.com/budgiehq/budgie/bunfile"
)

// idLength is the length of a replica's id.
const idLength = 64

// validate returns ErrInvalid with the rule that svc breaks. The same rules
// hold for what is announced and for what is received.
func validate(svc Service) error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%w %q: %s", ErrInvalid, svc.Name, fmt.Sprintf(format, args...))
	}
	if len(svc.ID) != idLength || !isHex(svc.ID) {
		return invalid("id %q is not %d lower-case hexadecimal characters", svc.ID, idLength)
	}
	if !isLabel(svc.Name) {
		return invalid("the name is not 1 to 63 lower-case letters, digits and inner hyphens")
	}
	for _, f := range []struct{ what, value string }{{"service id", svc.ServiceID}, {"node id", svc.Node}} {
		if !isToken(f.value, maxToken) {
			return invalid("%s %q is not 1 to %d visible ASCII characters", f.what, f.value, maxToken)
		}
	}
	if svc.Flock != "" && !isToken(svc.Flock, maxToken) {
		return invalid("flock id %q is not up to %d visible ASCII characters", svc.Flock, maxToken)
	}
	if svc.Image != "" && !isToken(svc.Image, MaxImage) {
		return invalid("image %q is not up to %d visible ASCII characters", svc.Image, MaxImage)
	}
	if svc.PeerPort < 0 || svc.PeerPort > 65535 {
		return invalid("peer port %d is not between 0 and 65535", svc.PeerPort)
	}
	if len(svc.Ports) > MaxPorts {
		return invalid("%d ports, and %d can be announced", len(svc.Ports), MaxPorts)
	}
	if svc.Host && (svc.Image != "" || len(svc.Ports) > 0) {
		return invalid("it is a node's that offers to run replicas, and has an image or ports")
	}
	for _, p := range svc.Ports {
		if rule := portRule(p); rule != "" {
			return invalid("%s", rule)
		}
	}
	return nil
}

// portRule returns the rule that a port breaks, or "".
func portRule(p Port) string {
	for _, n := range []int{p.ContainerPort, p.HostPort} {
		if n < 1 || n > 65535 {
			return fmt.Sprintf("port %d is not between 1 and 65535", n)
		}
	}
	switch {
	case p.Protocol != bunfile.TCP && p.Protocol != bunfile.UDP:
		return fmt.Sprintf("protocol %q of port %d is neither tcp nor udp", p.Protocol, p.ContainerPort)
	case p.HTTP && p.Protocol != bunfile.TCP:
		return fmt.Sprintf("port %d speaks HTTP over %s, which is not known", p.ContainerPort, p.Protocol)
	}
	return ""
}

// isLabel is the rule for container names: RFC 1123 section 2.1, lower case.
func isLabel(s string) bool {
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' &&
		!strings.ContainsFunc(s, func(r rune) bool {
			return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
		})
}

// isHex reports whether s consists of lower-case hexadecimal digits.
func isHex(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') })
}

// isToken reports whether s is 1 to limit visible ASCII characters.
func isToken(s string, limit int) bool {
	return s != "" && len(s) <= limit && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
