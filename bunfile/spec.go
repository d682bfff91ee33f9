// Package bunfile turns the text of a .bun file into container specifications:
// it parses, fills in defaults, validates, and explains what is wrong and where.
//
// A .bun file is YAML with one container per document. [Load] reads a file and
// resolves the paths in it; [Parse] works on text alone. Every problem of a
// file is reported at once, in order of position, as [Errors].
//
// The keys are documented in docs/bunfile.md and, for editors, in the JSON
// Schema returned by [Schema].
package bunfile

import "time"

// Version is the only file format version so far.
const Version = "1.0"

// Spec is what one document of a .bun file asks for. The zero value is not
// valid: see [Spec.Validate] for the rules and [Spec.WithDefaults] for what
// absent fields mean. A Spec is a plain value: copy it with [Spec.Clone] before
// changing a field that refers to shared memory.
//
// The JSON form uses the keys of the file.
type Spec struct {
	// Version is the file format version, "1.0".
	Version string `json:"version"`
	// Name is a DNS label (RFC 1123 section 2.1): 1 to 63 lower-case letters,
	// digits and inner hyphens. Load fills in the file's base name.
	Name string `json:"name,omitempty"`
	// Image says what to run.
	Image Image `json:"image,omitzero"`
	// Hostname is the host name inside the container; empty means Name.
	Hostname string `json:"hostname,omitempty"`
	// Labels are for the user; Budgie gives them no meaning.
	Labels map[string]string `json:"labels,omitempty"`
	// Network is the kind of network; empty means NetworkBridge where the
	// runtime has networks.
	Network Network `json:"network,omitempty"`
	// Balance says how the published ports spread their traffic.
	Balance Balance `json:"balance,omitzero"`
	// Ports are the ports the container listens on.
	Ports []Port `json:"ports,omitempty"`
	// Volumes are directories of the host that the container sees.
	Volumes []Volume `json:"volumes,omitempty"`
	// Environment holds KEY=value entries, in file order, keys unique.
	Environment []string `json:"environment,omitempty"`
	// EnvFile is a file with KEY=value lines, which Load merges into
	// Environment, whose own entries win; Load then leaves EnvFile empty.
	EnvFile string `json:"env_file,omitempty"`
	// Healthcheck is nil where the file has none.
	Healthcheck *Healthcheck `json:"healthcheck,omitempty"`
	// RestartPolicy says what happens when the container exits by itself.
	RestartPolicy RestartPolicy `json:"restart_policy,omitzero"`
	// StopTimeout is the time between the stop signal and the kill; nil means
	// DefaultStopTimeout.
	StopTimeout *Duration `json:"stop_timeout,omitempty"`
	// Replicas bounds how many replicas of the service there should be.
	Replicas Replicas `json:"replicas,omitzero"`
	// Resources limits what the container may use; zero fields are unlimited.
	Resources Resources `json:"resources,omitzero"`
	// DependsOn names containers of the same file that start first.
	DependsOn []string `json:"depends_on,omitempty"`
}

// Defaults of absent fields.
const (
	DefaultStopTimeout    = 10 * time.Second
	DefaultHealthInterval = 30 * time.Second
	DefaultHealthTimeout  = 5 * time.Second
	DefaultHealthRetries  = 3
	DefaultMinReplicas    = 1
)

// Image says what to run: an image, a command, or a command in an image.
type Image struct {
	// DockerImage is an image reference as Docker users write it; empty for a
	// custom command.
	DockerImage string `json:"docker_image,omitempty"`
	// Command overrides the image's command; required without an image.
	Command []string `json:"command,omitempty"`
	// Workdir is an absolute path inside the container.
	Workdir string `json:"workdir,omitempty"`
	// Pull says when to fetch the image; empty means PullMissing.
	Pull PullPolicy `json:"pull,omitempty"`
	// User is a name, a uid, or uid:gid; empty means the image's user.
	User string `json:"user,omitempty"`
}

// PullPolicy says when an image is fetched.
type PullPolicy string

// The pull policies.
const (
	PullMissing PullPolicy = "missing"
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never"
)

// Network is the kind of network a container gets.
type Network string

// The networks.
const (
	NetworkBridge Network = "bridge"
	NetworkHost   Network = "host"
	NetworkNone   Network = "none"
)

// Algorithm names a way of choosing a backend.
type Algorithm string

// The algorithms.
const (
	RoundRobin       Algorithm = "round-robin"
	LeastConnections Algorithm = "least-connections"
	// PowerOfTwo takes, of two backends drawn at random, the one that is likely
	// to answer sooner.
	PowerOfTwo Algorithm = "power-of-two"
	// Weighted takes turns in proportion to the backends' weights.
	Weighted Algorithm = "weighted"
	// ConsistentHash gives requests that belong together to one backend.
	ConsistentHash Algorithm = "consistent-hash"
)

// Algorithms returns all algorithms; the first is the default.
func Algorithms() []Algorithm {
	return []Algorithm{RoundRobin, LeastConnections, PowerOfTwo, Weighted, ConsistentHash}
}

// BalanceMode says which protocol the proxy in front of a published port
// speaks.
type BalanceMode string

// The modes.
const (
	// ModeAuto means ModeHTTP where the health check has a path, which
	// declares the container an HTTP server, and ModeTCP elsewhere.
	ModeAuto BalanceMode = "auto"
	ModeHTTP BalanceMode = "http"
	ModeTCP  BalanceMode = "tcp"
)

// BackendProtocol says which version of HTTP the proxy in front of a published
// port speaks to the containers, in ModeHTTP.
type BackendProtocol string

// The protocols.
const (
	// ProtocolAuto means HTTP/1.1, and HTTP/2 without TLS for calls by gRPC.
	ProtocolAuto BackendProtocol = "auto"
	// ProtocolH2C means HTTP/2 without TLS, with prior knowledge (RFC 9113 section
	// 3.3), but for upgrades such as WebSocket, which HTTP/1.1 alone has.
	ProtocolH2C BackendProtocol = "h2c"
)

// Preference says which of the healthy containers get traffic.
type Preference string

// The preferences.
const (
	// PreferAny means all of them.
	PreferAny Preference = "any"
	// PreferLocal means the one on the machine of the published port while it is
	// healthy, and the others only otherwise.
	PreferLocal Preference = "local"
)

// Balance says how traffic to a published port is spread.
type Balance struct {
	// Algorithm is the way of choosing a backend; empty means RoundRobin.
	Algorithm Algorithm `json:"algorithm,omitempty"`
	// Mode is the protocol of the proxy; empty means ModeAuto.
	Mode BalanceMode `json:"mode,omitempty"`
	// Protocol is what containers are spoken to by in ModeHTTP; empty means
	// ProtocolAuto.
	Protocol BackendProtocol `json:"protocol,omitempty"`
	// Prefer is which containers come first; empty means PreferAny.
	Prefer Preference `json:"prefer,omitempty"`
	// Hash says which requests belong together, for ConsistentHash only.
	Hash Hash `json:"hash,omitzero"`
	// SlowStart is the time over which a replica that is new, or came back, gets to
	// its full share; zero means at once.
	SlowStart Duration `json:"slow_start,omitempty"`
	// Weight is the share of the traffic of what runs from the specification, in
	// proportion to the weights of the other replicas, for Weighted: 1 to MaxWeight;
	// zero means 1.
	Weight int `json:"weight,omitempty"`
}

// MaxWeight is the largest Balance.Weight.
const MaxWeight = 256

// Hash says which requests belong together: those with the same value of a
// header or a cookie, at most one of which is set, and those that lack it, or
// all in the zero Hash, where they come from the same client address. TCP and
// UDP have addresses alone.
type Hash struct {
	// Header is the name of a field of the request's header.
	Header string `json:"header,omitempty"`
	// Cookie is the name of a cookie.
	Cookie string `json:"cookie,omitempty"`
}

// Protocol is a transport protocol.
type Protocol string

// The protocols.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// Port is a port the container listens on and the host port it is published
// as.
type Port struct {
	// ContainerPort is the port inside the container, 1 to 65535.
	ContainerPort int `json:"container_port"`
	// HostPort is the published port; 0 means any free one.
	HostPort int `json:"host_port,omitempty"`
	// Protocol is TCP where empty.
	Protocol Protocol `json:"protocol,omitempty"`
}

// VolumeMode says whether a container may write to a volume.
type VolumeMode string

// The volume modes.
const (
	ReadWrite VolumeMode = "rw"
	ReadOnly  VolumeMode = "ro"
)

// Volume makes a directory of the host visible in the container.
type Volume struct {
	// Source is a host path; Load makes it absolute, relative to the file.
	Source string `json:"source"`
	// Target is an absolute path in the container, without "..".
	Target string `json:"target"`
	// Mode is ReadWrite where empty.
	Mode VolumeMode `json:"mode,omitempty"`
}

// Healthcheck says how to tell whether a container serves. Exactly one of
// Path, TCP and Command is set.
type Healthcheck struct {
	// Path is requested with GET from the first TCP port; 200 to 399 is
	// healthy.
	Path string `json:"path,omitempty"`
	// TCP is the ContainerPort of a TCP port in Ports, which must accept a
	// connection; 0 means unset.
	TCP int `json:"tcp,omitempty"`
	// Command is run inside the container; exit status 0 is healthy.
	Command []string `json:"command,omitempty"`
	// Interval is the time between probes; zero means DefaultHealthInterval.
	Interval Duration `json:"interval,omitempty"`
	// Timeout bounds one probe; zero means DefaultHealthTimeout.
	Timeout Duration `json:"timeout,omitempty"`
	// Retries is how many probes in a row must fail before a healthy
	// container counts as unhealthy; zero means DefaultHealthRetries.
	Retries int `json:"retries,omitempty"`
	// StartPeriod is the time after a start in which failures do not count.
	StartPeriod Duration `json:"start_period,omitempty"`
}

// RestartPolicyName names a restart policy.
type RestartPolicyName string

// The restart policies. Under each of them, a container that a person stopped
// stays stopped.
const (
	RestartNo            RestartPolicyName = "no"
	RestartAlways        RestartPolicyName = "always"
	RestartOnFailure     RestartPolicyName = "on-failure"
	RestartUnlessStopped RestartPolicyName = "unless-stopped"
)

// RestartPolicy says what happens when a container exits by itself.
type RestartPolicy struct {
	// Name is RestartNo where empty.
	Name RestartPolicyName `json:"name,omitempty"`
	// MaximumRetryCount bounds RestartOnFailure; 0 means unlimited.
	MaximumRetryCount int `json:"maximum_retry_count,omitempty"`
}

// Replicas bounds how many replicas of a service there should be, in all of the
// flock.
type Replicas struct {
	// Min is DefaultMinReplicas where zero.
	Min int `json:"min,omitempty"`
	// Max is unlimited where zero.
	Max int `json:"max,omitempty"`
}

// Resources limits what a container may use. Zero fields are unlimited.
type Resources struct {
	// CPUShares is a relative weight, 2 to 262144.
	CPUShares int64 `json:"cpu_shares,omitempty"`
	// CPUQuota is microseconds of CPU time per period of 100 ms.
	CPUQuota int64 `json:"cpu_quota,omitempty"`
	// MemoryLimit is in bytes.
	MemoryLimit Size `json:"memory_limit,omitempty"`
	// MemorySwap is memory plus swap, in bytes; -1 is unlimited swap.
	MemorySwap Size `json:"memory_swap,omitempty"`
	// BlkioWeight is a relative weight, 10 to 1000.
	BlkioWeight int `json:"blkio_weight,omitempty"`
	// PidsLimit is the number of processes and threads.
	PidsLimit int64 `json:"pids_limit,omitempty"`
}

// Duration is a time.Duration that reads and writes as text such as "1m30s".
type Duration time.Duration

// Std returns d as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String returns d as text, for example "1m30s".
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes d as [Duration.String] does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads text as [time.ParseDuration] does.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// Size is a number of bytes.
type Size int64
