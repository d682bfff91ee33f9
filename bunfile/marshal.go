package bunfile

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Marshal writes specs as the text of a .bun file, one document each. Absent
// fields are left out, no defaults are added. Parse reads the text back as the
// same specs; therefore Marshal refuses, with Errors, what Parse would: an
// invalid Spec, equal names, DependsOn that names none of specs.
func Marshal(specs ...Spec) ([]byte, error) {
	var errs Errors
	for i := range specs {
		for _, p := range checkSpec(&specs[i]) {
			errs = append(errs, setError(specs, setProblem{i, p}))
		}
	}
	for _, p := range checkSet(specs) {
		errs = append(errs, setError(specs, p))
	}
	if len(specs) == 0 {
		errs = append(errs, &Error{Message: "there is no container to write"})
	}
	if len(errs) > 0 {
		return nil, errs
	}
	var w writer
	for i := range specs {
		if i > 0 {
			w.line("---")
		}
		w.spec(&specs[i])
	}
	// What is too long or has too many tokens to be read is not to be written.
	if _, err := parseSpecs("", w.text, false); err != nil {
		return nil, fmt.Errorf("the file would not be readable: %w", err)
	}
	return w.text, nil
}

// writer writes block style YAML, every string that could be taken for
// something else in double quotes.
type writer struct {
	text   []byte
	indent string
}

func (w *writer) line(text string) { w.text = append(w.text, w.indent+text+"\n"...) }

func (w *writer) spec(s *Spec) {
	w.raw("version", quoteYAML(s.Version))
	w.string("name", s.Name)
	w.section("image", func() { w.image(&s.Image) })
	w.string("hostname", s.Hostname)
	w.section("labels", func() {
		for key, value := range sortedMap(s.Labels) {
			w.raw(scalarYAML(key), quoteYAML(value))
		}
	})
	w.string("network", string(s.Network))
	w.section("balance", func() {
		w.string("algorithm", string(s.Balance.Algorithm))
		w.string("mode", string(s.Balance.Mode))
		w.string("protocol", string(s.Balance.Protocol))
		w.string("prefer", string(s.Balance.Prefer))
		w.section("hash", func() {
			w.string("header", s.Balance.Hash.Header)
			w.string("cookie", s.Balance.Hash.Cookie)
		})
		w.duration("slow_start", s.Balance.SlowStart)
		w.number("weight", int64(s.Balance.Weight))
	})
	items(w, "ports", s.Ports, func(p Port) {
		w.number("container_port", int64(p.ContainerPort))
		w.number("host_port", int64(p.HostPort))
		w.string("protocol", string(p.Protocol))
	})
	items(w, "volumes", s.Volumes, func(v Volume) {
		w.string("source", v.Source)
		w.string("target", v.Target)
		w.string("mode", string(v.Mode))
	})
	w.strings("environment", s.Environment)
	w.string("env_file", s.EnvFile)
	if s.Healthcheck != nil {
		w.section("healthcheck", func() { w.health(s.Healthcheck) })
	}
	w.section("restart_policy", func() {
		w.string("name", string(s.RestartPolicy.Name))
		w.number("maximum_retry_count", int64(s.RestartPolicy.MaximumRetryCount))
	})
	if s.StopTimeout != nil {
		w.raw("stop_timeout", s.StopTimeout.String())
	}
	w.section("replicas", func() {
		w.number("min", int64(s.Replicas.Min))
		w.number("max", int64(s.Replicas.Max))
	})
	w.section("resources", func() { w.resources(&s.Resources) })
	w.strings("depends_on", s.DependsOn)
}

func (w *writer) image(i *Image) {
	w.string("docker_image", i.DockerImage)
	w.strings("command", i.Command)
	w.string("workdir", i.Workdir)
	w.string("pull", string(i.Pull))
	w.string("user", i.User)
}

func (w *writer) health(h *Healthcheck) {
	w.string("path", h.Path)
	w.number("tcp", int64(h.TCP))
	w.strings("command", h.Command)
	w.duration("interval", h.Interval)
	w.duration("timeout", h.Timeout)
	w.number("retries", int64(h.Retries))
	w.duration("start_period", h.StartPeriod)
}

func (w *writer) resources(r *Resources) {
	w.number("cpu_shares", r.CPUShares)
	w.number("cpu_quota", r.CPUQuota)
	w.number("memory_limit", int64(r.MemoryLimit))
	w.number("memory_swap", int64(r.MemorySwap))
	w.number("blkio_weight", int64(r.BlkioWeight))
	w.number("pids_limit", r.PidsLimit)
}

// raw writes a line with a key and a value that are YAML already.
func (w *writer) raw(key, value string) { w.line(key + ": " + value) }

func (w *writer) string(key, value string) {
	if value != "" {
		w.raw(key, scalarYAML(value))
	}
}

func (w *writer) number(key string, value int64) {
	if value != 0 {
		w.raw(key, strconv.FormatInt(value, 10))
	}
}

func (w *writer) duration(key string, value Duration) {
	if value != 0 {
		w.raw(key, value.String())
	}
}

// section writes a mapping, or nothing if fill writes nothing.
func (w *writer) section(key string, fill func()) {
	before := len(w.text)
	w.line(key + ":")
	empty, indent := len(w.text), w.indent
	w.indent += "  "
	fill()
	w.indent = indent
	if len(w.text) == empty {
		w.text = w.text[:before]
	}
}

func (w *writer) strings(key string, values []string) {
	w.section(key, func() {
		for _, value := range values {
			w.line("- " + quoteYAML(value))
		}
	})
}

// items writes a list of mappings, none of them empty.
func items[T any](w *writer, key string, values []T, fill func(T)) {
	w.section(key, func() {
		for _, value := range values {
			start := len(w.text) + len(w.indent)
			w.indent += "  "
			fill(value)
			w.indent = strings.TrimSuffix(w.indent, "  ")
			w.text[start] = '-'
		}
	})
}

// plainYAML is what every reader of YAML takes for a string, except for the
// words of reservedYAML.
var plainYAML = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*$`)

// reservedYAML are the words that some version of YAML takes for something
// else than a string.
var reservedYAML = regexp.MustCompile(`^(?i:null|true|false|yes|no|on|off|y|n)$`)

func scalarYAML(s string) string {
	if plainYAML.MatchString(s) && !reservedYAML.MatchString(s) {
		return s
	}
	return quoteYAML(s)
}

// quoteYAML returns s in double quotes, on one line (YAML 1.2.2 section 5.7).
func quoteYAML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	var before rune
	for _, r := range s {
		last := before
		before = r
		switch {
		case r == '<' && last == '<':
			b.WriteString(`\x3c`) // see maxLessThan
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
