package mdns

import (
	"strconv"
	"strings"

	"github.com/budgiehq/budgie/discovery"
)

const (
	// serviceName is the DNS-SD service type of replicas.
	serviceName = "_budgie._tcp.local."
	// typesName is where service types themselves are found: RFC 6763 section
	// 9.
	typesName = "_services._dns-sd._udp.local."
	// shortID is how many characters of a replica's id its instance name has.
	shortID = 12
	// maxLabel is the length of a DNS label: RFC 1035 section 2.3.4.
	maxLabel = 63
)

// instanceName returns the DNS name of a service's instance: its name, cut if
// need be, and the beginning of its id, which keeps the replicas of a service
// apart. There are no dots in it.
func instanceName(svc discovery.Service) string { return otherName(svc, 1) }

// otherName returns the nth name of a service's instance, the others being
// taken: RFC 6762 section 9.
func otherName(svc discovery.Service, nth int) string {
	end := "-" + svc.ID[:shortID]
	if nth > 1 {
		end = "-" + strconv.Itoa(nth) + end
	}
	return svc.Name[:min(len(svc.Name), maxLabel-len(end))] + end + "." + serviceName
}

// shortIDOf returns the short id in an instance name, and false for names that
// are not those of Budgie's instances: other types, labels with dots, and labels
// that do not end in a short id. What stands before it does not matter, so that
// a renamed instance (RFC 6762 section 9) still counts.
func shortIDOf(name string) (string, bool) {
	label, ok := strings.CutSuffix(name, "."+serviceName)
	if !ok || strings.Contains(label, ".") || len(label) < 1+1+shortID {
		return "", false
	}
	label, short := label[:len(label)-shortID], label[len(label)-shortID:]
	for _, c := range []byte(short) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", false
		}
	}
	return short, strings.HasSuffix(label, "-")
}
