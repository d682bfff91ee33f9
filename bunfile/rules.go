package bunfile

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/distribution/reference"
)

// problem is something wrong, before it is known how to show it. pos is zero
// where only the key is known.
type problem struct {
	pos     position
	path    string
	message string
	hint    string
	cause   error
	// relies are other keys without which the problem says nothing: where one
	// of them could not be read, the problem is only a consequence.
	relies []string
}

// findings collects what is wrong with a Spec. The rules are the same for a
// file, where each path has a place, and for a Spec built in code.
type findings []problem

func (f *findings) add(path, message, hint string) {
	*f = append(*f, problem{path: path, message: message, hint: hint})
}

// relying is add for a rule about several keys.
func (f *findings) relying(on []string, path, message, hint string) {
	*f = append(*f, problem{path: path, message: message, hint: hint, relies: on})
}

// Validate returns nil if s keeps the rules of a .bun file, or else Errors with
// everything that is wrong, each with the key at fault. Absent fields that
// have a default are valid. What depends on other containers of a file, names
// in DependsOn above all, is checked by [StartOrder].
func (s Spec) Validate() error {
	var errs Errors
	for _, p := range checkSpec(&s) {
		errs = append(errs, &Error{Path: p.path, Message: p.message, Hint: p.hint, cause: p.cause})
	}
	if len(errs) == 0 {
		return nil
	}
	return errs
}

// checkSpec holds every rule about a single container.
func checkSpec(s *Spec) findings {
	var f findings
	f.checkIdentity(s)
	f.checkImage(&s.Image)
	f.oneOf("network", string(s.Network), string(NetworkBridge), string(NetworkHost), string(NetworkNone))
	f.checkBalance(s)
	f.checkPorts(s.Ports)
	f.checkVolumes(s.Volumes)
	f.checkEnvironment(s.Environment)
	f.checkEnvFile(s.EnvFile)
	if s.Healthcheck != nil {
		f.checkHealth(s.Healthcheck, s.Ports)
	}
	f.oneOf("restart_policy.name", string(s.RestartPolicy.Name),
		string(RestartNo), string(RestartAlways), string(RestartOnFailure), string(RestartUnlessStopped))
	f.number("restart_policy.maximum_retry_count", int64(s.RestartPolicy.MaximumRetryCount), restartCounts)
	if s.StopTimeout != nil && *s.StopTimeout < 0 {
		f.add("stop_timeout", fmt.Sprintf("%s is less than nothing: want 0 or more", s.StopTimeout), "")
	}
	f.checkReplicas(s.Replicas)
	f.checkResources(s.Resources)
	f.checkDependsOn(s)
	return f
}

// dnsLabel is RFC 1123 section 2.1, lower case.
var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// hostName is one or more labels of letters of either case, with dots between.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)

// maxHostname is what Linux allows (HOST_NAME_MAX).
const maxHostname = 64

const wantLabel = "want 1 to 63 lower-case letters, digits and inner hyphens"

func (f *findings) checkIdentity(s *Spec) {
	switch s.Version {
	case Version:
	case "":
		f.add("version", `the key "version" is missing`, `add version: "1.0"`)
	default:
		f.add("version", fmt.Sprintf("%s is not supported: want %s", quote(s.Version), quote(Version)), "")
	}
	switch {
	case s.Name == "":
		f.add("name", "the container has no name", "add name: NAME; "+wantLabel)
	case !dnsLabel.MatchString(s.Name):
		f.add("name", fmt.Sprintf("%s is not a name: %s", quote(s.Name), wantLabel), labelHint(s.Name))
	}
	if s.Hostname != "" && (len(s.Hostname) > maxHostname || !hostName.MatchString(s.Hostname)) {
		f.add("hostname", fmt.Sprintf("%s is not a host name: want letters, digits and inner hyphens, in labels with dots between, at most %d",
			quote(s.Hostname), maxHostname), "")
	}
	for key, value := range sortedMap(s.Labels) {
		if key == "" {
			f.add("labels", "a label has an empty name", "")
		}
		f.text(keyPath("labels", key), key)
		f.text(keyPath("labels", key), value)
	}
}

// labelHint proposes a name for what was given, if any is left of it.
func labelHint(name string) string {
	label := strings.Map(func(r rune) rune {
		switch r = unicode.ToLower(r); {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return '-'
	}, name)
	label = strings.Trim(label[:min(len(label), 63)], "-")
	if !dnsLabel.MatchString(label) {
		return ""
	}
	return "for example " + label
}

// text refuses what cannot be handed to a process or written to a file.
func (f *findings) text(path, value string) bool {
	switch {
	case !utf8.ValidString(value):
		f.add(path, fmt.Sprintf("%s is not UTF-8 text", quote(value)), "")
	case strings.ContainsRune(value, 0):
		f.add(path, fmt.Sprintf("%s contains a NUL character, which no argument, variable or path can hold", quote(value)), "")
	default:
		return true
	}
	return false
}

// oneOf accepts the empty value: it stands for the default.
func (f *findings) oneOf(path, value string, allowed ...string) {
	if value == "" || slices.Contains(allowed, value) {
		return
	}
	hint := ""
	if near := nearest(value, allowed); near != "" {
		hint = "did you mean " + near + "?"
	}
	f.add(path, fmt.Sprintf("%s is not known: want %s", quote(value), orList(allowed)), hint)
}

// number accepts 0: it stands for the default.
func (f *findings) number(path string, value int64, allowed numberRange) {
	if value != 0 && !allowed.holds(value) {
		f.add(path, fmt.Sprintf("%d is out of range: want %s", value, allowed), "")
	}
}

var userText = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_.-]*|[0-9]{1,10}(:[0-9]{1,10})?)$`)

func (f *findings) checkImage(i *Image) {
	if i.DockerImage == "" && len(i.Command) == 0 {
		f.relying([]string{"image.docker_image", "image.command"}, "image", "nothing to run: want command, docker_image, or both",
			`for example image: {command: [./server]}, or image: {docker_image: "nginx:1.27"} for a container runtime`)
	}
	if i.DockerImage != "" {
		f.checkReference(i.DockerImage)
	} else if i.Pull != "" {
		f.relying([]string{"image.docker_image"}, "image.pull", "there is no docker_image to pull", "delete the key")
	}
	f.checkCommand("image.command", i.Command)
	if i.Workdir != "" && f.text("image.workdir", i.Workdir) && !path.IsAbs(i.Workdir) {
		f.add("image.workdir", fmt.Sprintf("%s is not an absolute path: want one that starts with /", quote(i.Workdir)), "")
	}
	f.oneOf("image.pull", string(i.Pull), string(PullMissing), string(PullAlways), string(PullNever))
	f.checkUser(i.User)
}

func (f *findings) checkUser(user string) {
	if user == "" {
		return
	}
	ok := userText.MatchString(user)
	if ok && user[0] <= '9' {
		for id := range strings.SplitSeq(user, ":") {
			// (uid_t)-1 means "no change" to the kernel: setuid(2).
			n, err := strconv.ParseUint(id, 10, 32)
			ok = ok && err == nil && n < 1<<32-1
		}
	}
	if !ok {
		f.add("image.user", fmt.Sprintf("%s is not a user: want a name, a uid or uid:gid", quote(user)), "")
	}
}

func (f *findings) checkReference(text string) {
	_, err := reference.ParseNormalizedNamed(text)
	if err == nil {
		return
	}
	hint := ""
	if _, err := reference.ParseNormalizedNamed(strings.ToLower(text)); err == nil {
		hint = "did you mean " + strings.ToLower(text) + "?"
	} else if _, after, ok := strings.Cut(text, "://"); ok {
		hint = "leave out the scheme: " + quote(after)
	}
	f.add("image.docker_image", fmt.Sprintf("%s is not an image reference: %s; want [registry/]name[:tag][@digest]", quote(text), err), hint)
}

func (f *findings) checkCommand(path string, command []string) {
	for i, arg := range command {
		at := indexPath(path, i)
		if f.text(at, arg) && i == 0 && arg == "" {
			f.add(at, "the program has an empty name", "")
		}
	}
}

// endpoint is what can be given once in a container.
type endpoint struct {
	port     int
	protocol Protocol
}

func (f *findings) checkPorts(ports []Port) {
	inside, outside := map[endpoint]int{}, map[endpoint]int{}
	for i, p := range ports {
		at := indexPath("ports", i)
		if p.ContainerPort == 0 {
			f.add(at+".container_port", `the key "container_port" is missing`, "")
		}
		f.number(at+".container_port", int64(p.ContainerPort), containerPorts)
		f.number(at+".host_port", int64(p.HostPort), hostPorts)
		f.oneOf(at+".protocol", string(p.Protocol), string(TCP), string(UDP))
		protocol := cmp.Or(p.Protocol, TCP)
		f.once(inside, endpoint{p.ContainerPort, protocol}, i, at+".container_port", "container")
		f.once(outside, endpoint{p.HostPort, protocol}, i, at+".host_port", "host")
	}
}

// once ignores port 0, which stands for an absent one.
func (f *findings) once(seen map[endpoint]int, e endpoint, i int, path, where string) {
	if e.port == 0 {
		return
	}
	if first, twice := seen[e]; twice {
		f.add(path, fmt.Sprintf("%s port %d/%s is given twice; first in ports[%d]", where, e.port, e.protocol, first), "")
		return
	}
	seen[e] = i
}

func (f *findings) checkVolumes(volumes []Volume) {
	targets := map[string]int{}
	for i, v := range volumes {
		at := indexPath("volumes", i)
		switch {
		case v.Source == "":
			f.add(at+".source", "the volume has no source", "add source: a directory, relative to the .bun file")
		case v.Source == "~" || strings.HasPrefix(v.Source, "~/"):
			f.add(at+".source", fmt.Sprintf("%s: ~ is not expanded", quote(v.Source)), "write the path out, absolute or relative to the .bun file")
		default:
			f.text(at+".source", v.Source)
		}
		f.oneOf(at+".mode", string(v.Mode), string(ReadWrite), string(ReadOnly))
		if !f.checkTarget(at+".target", v.Target) {
			continue
		}
		clean := path.Clean(v.Target)
		if first, twice := targets[clean]; twice {
			f.add(at+".target", fmt.Sprintf("%s is given twice; first in volumes[%d]", quote(clean), first), "")
			continue
		}
		targets[clean] = i
	}
}

func (f *findings) checkTarget(at, target string) bool {
	switch {
	case target == "":
		f.add(at, "the volume has no target", "add target: an absolute path in the container")
	case !f.text(at, target):
	case !path.IsAbs(target):
		f.add(at, fmt.Sprintf("%s is not an absolute path: want one that starts with /", quote(target)), "")
	case slices.Contains(strings.Split(target, "/"), ".."):
		f.add(at, fmt.Sprintf(`%s contains "..": want a path without it`, quote(target)), "write "+path.Clean(target)+" if that is meant")
	case path.Clean(target) == "/":
		f.add(at, fmt.Sprintf("%s would hide the whole container", quote(target)), "mount a directory below it")
	default:
		return true
	}
	return false
}

// envKeyProblem says what is wrong with the name of a variable.
func envKeyProblem(key string) string {
	if key == "" {
		return "the variable has no name: want KEY=value"
	}
	if strings.ContainsFunc(key, func(r rune) bool { return r == '=' || unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return fmt.Sprintf("%s is not the name of a variable: want no blanks, control characters or =", quote(key))
	}
	return ""
}

func (f *findings) checkEnvironment(entries []string) {
	seen := map[string]int{}
	for i, entry := range entries {
		at := indexPath("environment", i)
		key, value, ok := strings.Cut(entry, "=")
		if !ok {
			f.add(at, fmt.Sprintf("%s has no =: want KEY=value", quote(entry)), envHint(entry))
			continue
		}
		if problem := envKeyProblem(key); problem != "" {
			f.add(at, problem, "")
			continue
		}
		if first, twice := seen[key]; twice {
			f.add(at, fmt.Sprintf("variable %s is given twice; first in environment[%d]", quote(key), first), "")
			continue
		}
		seen[key] = i
		if f.text(at, key) {
			f.secretText(at, key, value)
		}
	}
}

func envHint(entry string) string {
	if key, value, ok := strings.Cut(entry, ":"); ok && envKeyProblem(key) == "" && value != "" {
		return "did you mean " + key + "=…?"
	}
	return "to set it to nothing, write the name with = behind it; variables of the host are not passed on"
}

// secretText is text for values that errors must not repeat.
func (f *findings) secretText(at, key, value string) {
	var hidden findings
	if hidden.text(at, value); len(hidden) > 0 {
		f.add(at, fmt.Sprintf("the value of %s contains a NUL character or is not UTF-8 text", quote(key)), "")
	}
}

func (f *findings) checkEnvFile(name string) {
	if f.text("env_file", name) && (name == "~" || strings.HasPrefix(name, "~/")) {
		f.add("env_file", fmt.Sprintf("%s: ~ is not expanded", quote(name)), "write the path out, absolute or relative to the .bun file")
	}
}

func (f *findings) checkHealth(h *Healthcheck, ports []Port) {
	given := 0
	for _, is := range []bool{h.Path != "", h.TCP != 0, len(h.Command) > 0} {
		if is {
			given++
		}
	}
	if given != 1 {
		f.relying([]string{"healthcheck.path", "healthcheck.tcp", "healthcheck.command"}, "healthcheck",
			fmt.Sprintf("want exactly one of path, tcp and command, got %s", []string{"none", "", "two", "all three"}[given]), "")
	}
	if h.Path != "" {
		f.checkHealthPath(h.Path, ports)
	}
	f.number("healthcheck.tcp", int64(h.TCP), containerPorts)
	if containerPorts.holds(int64(h.TCP)) {
		f.checkHealthTCP(h.TCP, ports)
	}
	f.checkCommand("healthcheck.command", h.Command)
	for _, probe := range []struct {
		key   string
		value Duration
	}{{"interval", h.Interval}, {"timeout", h.Timeout}} {
		if probe.value != 0 && probe.value < minProbe {
			f.add("healthcheck."+probe.key, fmt.Sprintf("%s is too short: want %s or more", probe.value, minProbe), "")
		}
	}
	f.number("healthcheck.retries", int64(h.Retries), retryCounts)
	if h.StartPeriod < 0 {
		f.add("healthcheck.start_period", fmt.Sprintf("%s is less than nothing: want 0 or more", h.StartPeriod), "")
	}
}

func (f *findings) checkHealthPath(path string, ports []Port) {
	at := "healthcheck.path"
	switch {
	case !f.text(at, path):
	case path[0] != '/':
		f.add(at, fmt.Sprintf("%s is not the path of a URL: want one that starts with /", quote(path)), "")
	case strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		f.add(at, fmt.Sprintf("%s contains a blank or a control character", quote(path)), "write it with %, such as %20 for a space")
	case !slices.ContainsFunc(ports, isTCP):
		f.relying([]string{"ports"}, at, "the path is requested from the first TCP port, and ports has none", "add the port under ports, or use command")
	}
}

// checkHealthTCP wants a declared port: of others, a runtime does not know where
// they are.
func (f *findings) checkHealthTCP(port int, ports []Port) {
	var known []Port
	for _, p := range ports {
		if !isTCP(p) {
			continue
		}
		if p.ContainerPort == port {
			return
		}
		known = append(known, p)
	}
	hint := fmt.Sprintf("add {container_port: %d} to ports", port)
	if published := slices.IndexFunc(known, func(p Port) bool { return p.HostPort == port }); published >= 0 {
		hint = fmt.Sprintf("%d is a host_port; write its container_port, %d", port, known[published].ContainerPort)
	} else if len(known) == 1 {
		hint = fmt.Sprintf("did you mean %d? If not, %s", known[0].ContainerPort, hint)
	}
	f.relying([]string{"ports"}, "healthcheck.tcp", fmt.Sprintf("%d is not the container_port of a TCP port in ports", port), hint)
}

func isTCP(p Port) bool { return cmp.Or(p.Protocol, TCP) == TCP }

func (f *findings) checkReplicas(r Replicas) {
	f.number("replicas.min", int64(r.Min), minReplicas)
	f.number("replicas.max", int64(r.Max), maxReplicas)
	if least := max(r.Min, DefaultMinReplicas); r.Max > 0 && r.Max < least {
		f.relying([]string{"replicas.min"}, "replicas.max", fmt.Sprintf("max %d is less than min %d", r.Max, least), "")
	}
}

func (f *findings) checkResources(r Resources) {
	f.number("resources.cpu_shares", r.CPUShares, cpuShares)
	f.number("resources.cpu_quota", r.CPUQuota, cpuQuotas)
	if r.MemoryLimit != 0 && r.MemoryLimit < minMemory {
		f.add("resources.memory_limit", fmt.Sprintf("%d bytes is too little: want %d (1MiB) or more", r.MemoryLimit, minMemory), memoryHint(r.MemoryLimit))
	}
	switch {
	case r.MemorySwap == 0, r.MemorySwap == -1:
	case r.MemorySwap < -1:
		f.add("resources.memory_swap", fmt.Sprintf("%d is out of range: want a size, or -1 for unlimited swap", r.MemorySwap), "")
	case r.MemoryLimit == 0:
		f.relying([]string{"resources.memory_limit"}, "resources.memory_swap", "memory_swap is memory plus swap, and there is no memory_limit", "add memory_limit")
	case r.MemorySwap < r.MemoryLimit:
		f.relying([]string{"resources.memory_limit"}, "resources.memory_swap", fmt.Sprintf("memory_swap %d is less than memory_limit %d; it is memory plus swap", r.MemorySwap, r.MemoryLimit),
			"to allow no swap, make them equal")
	}
	f.number("resources.blkio_weight", int64(r.BlkioWeight), blkioWeights)
	f.number("resources.pids_limit", r.PidsLimit, pidsLimits)
}

func memoryHint(limit Size) string {
	if limit < 0 {
		return "leave the key out for unlimited memory"
	}
	return fmt.Sprintf("did you mean %dMiB?", limit)
}

func (f *findings) checkDependsOn(s *Spec) {
	seen := map[string]bool{}
	for i, name := range s.DependsOn {
		at := indexPath("depends_on", i)
		switch {
		case !dnsLabel.MatchString(name):
			f.add(at, fmt.Sprintf("%s is not a name: %s", quote(name), wantLabel), "")
		case name == s.Name:
			*f = append(*f, problem{path: at, message: fmt.Sprintf("%s depends on itself", quote(name)), cause: ErrCycle})
		case seen[name]:
			f.add(at, fmt.Sprintf("%s is given twice", quote(name)), "")
		}
		seen[name] = true
	}
}
