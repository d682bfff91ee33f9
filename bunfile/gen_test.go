package bunfile_test

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/budgiehq/budgie/bunfile"
)

// nasty are strings that YAML readers take for something else, or stumble
// over, besides whatever rapid thinks of.
var nasty = []string{
	"", " ", "null", "~", "Null", "true", "no", "y", "off", "1.10", "010", "0x1f", "1e3", ".inf", "2024-01-01",
	"- a", "? a", "a: b", "a:", ": a", "#", " # c", "a #b", "&a", "*a", "!!str", "%a", "@a", "`a`", "<<", "---", "...",
	"'", "\"", "''", "\\", "\\n", "\n", "a\n\nb\n", "\ta\t", "a\r\nb", "\r", " a ", "{", "}", "[", "]", ",", "|", ">-",
	"\x01\x1b[31m\x7f", "\u0085\u00a0\u2028\ufeff", "日本語 🐦", "\U0001F600\uFFFD", "=", "a=b=c", "{{.X}}", strings.Repeat("<", 300), strings.Repeat("\t", 1100), strings.Repeat("\n", 150),
}

func texts() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom(nasty),
		rapid.Map(rapid.String(), func(s string) string { return strings.ReplaceAll(s, "\x00", "") }),
		rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOfN(rapid.SampledFrom(nasty), 1, 4).Draw(t, "parts"), "")
		}),
	)
}

// maybe draws the zero value, which stands for an absent key, every other time.
func maybe[T any](t *rapid.T, label string, g *rapid.Generator[T]) T {
	if rapid.Bool().Draw(t, label+"?") {
		return g.Draw(t, label)
	}
	return *new(T)
}

func names() *rapid.Generator[string] {
	return rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?`)
}

func programs() *rapid.Generator[[]string] {
	return rapid.Custom(func(t *rapid.T) []string {
		program := texts().Filter(func(s string) bool { return s != "" }).Draw(t, "program")
		return append([]string{program}, rapid.SliceOfN(texts(), 0, 4).Draw(t, "arguments")...)
	})
}

func images() *rapid.Generator[bunfile.Image] {
	return rapid.Custom(func(t *rapid.T) bunfile.Image {
		i := bunfile.Image{
			DockerImage: maybe(t, "image", rapid.SampledFrom([]string{"nginx", "nginx:1.10", "a/b:latest", "localhost:5000/x:010",
				"ghcr.io/a/b@sha256:" + strings.Repeat("ab", 32), "1.10", "0x1f", "null", "true"})),
			Workdir: maybe(t, "workdir", rapid.Map(texts(), func(s string) string { return "/" + s })),
			User:    maybe(t, "user", rapid.SampledFrom([]string{"0", "1000", "1000:1000", "postgres", "no", "4294967294"})),
		}
		if i.DockerImage != "" {
			i.Pull = maybe(t, "pull", rapid.SampledFrom([]bunfile.PullPolicy{bunfile.PullAlways, bunfile.PullMissing, bunfile.PullNever}))
		}
		if i.DockerImage == "" || rapid.Bool().Draw(t, "command?") {
			i.Command = programs().Draw(t, "command")
		}
		return i
	})
}

func ports() *rapid.Generator[[]bunfile.Port] {
	return rapid.Custom(func(t *rapid.T) []bunfile.Port {
		inside := rapid.SliceOfNDistinct(rapid.IntRange(1, 65535), 0, 4, rapid.ID).Draw(t, "inside")
		outside := rapid.SliceOfNDistinct(rapid.IntRange(1, 65535), len(inside), len(inside), rapid.ID).Draw(t, "outside")
		var out []bunfile.Port
		for i, port := range inside {
			p := bunfile.Port{ContainerPort: port, Protocol: maybe(t, "protocol", rapid.SampledFrom([]bunfile.Protocol{bunfile.TCP, bunfile.UDP}))}
			if rapid.Bool().Draw(t, "published?") {
				p.HostPort = outside[i]
			}
			out = append(out, p)
		}
		return out
	})
}

func environments() *rapid.Generator[[]string] {
	return rapid.Custom(func(t *rapid.T) []string {
		values := rapid.MapOfN(rapid.StringMatching(`[A-Za-z_.0-9:&*#"'-]{1,12}`), texts(), 0, 5).Draw(t, "environment")
		var out []string
		for _, key := range slices.Sorted(maps.Keys(values)) {
			out = append(out, key+"="+values[key])
		}
		return out
	})
}

func volumes() *rapid.Generator[[]bunfile.Volume] {
	return rapid.Custom(func(t *rapid.T) []bunfile.Volume {
		var out []bunfile.Volume
		for i := range rapid.IntRange(0, 3).Draw(t, "volumes") {
			out = append(out, bunfile.Volume{
				Source: texts().Filter(func(s string) bool { return s != "" && s[0] != '~' }).Draw(t, "source"),
				Target: "/v" + strconv.Itoa(i) + strings.ReplaceAll(texts().Draw(t, "target"), "..", ""),
				Mode:   maybe(t, "mode", rapid.SampledFrom([]bunfile.VolumeMode{bunfile.ReadOnly, bunfile.ReadWrite})),
			})
		}
		return out
	})
}

func times(least time.Duration) *rapid.Generator[bunfile.Duration] {
	return rapid.Map(rapid.Int64Range(int64(least), int64(1000*time.Hour)), func(n int64) bunfile.Duration { return bunfile.Duration(n) })
}

func healthchecks(ports []int) *rapid.Generator[*bunfile.Healthcheck] {
	return rapid.Custom(func(t *rapid.T) *bunfile.Healthcheck {
		h := &bunfile.Healthcheck{
			Interval:    maybe(t, "interval", times(time.Millisecond)),
			Timeout:     maybe(t, "timeout", times(time.Millisecond)),
			Retries:     maybe(t, "retries", rapid.IntRange(1, 100)),
			StartPeriod: maybe(t, "start_period", times(0)),
		}
		switch kind := rapid.IntRange(0, 2).Draw(t, "kind"); {
		case kind == 0 || len(ports) == 0:
			h.Command = programs().Draw(t, "health command")
		case kind == 1:
			h.TCP = rapid.SampledFrom(ports).Draw(t, "tcp")
		default:
			h.Path = "/" + rapid.StringMatching(`[!-~é日]{0,20}`).Draw(t, "path")
		}
		return h
	})
}

func resources() *rapid.Generator[bunfile.Resources] {
	return rapid.Custom(func(t *rapid.T) bunfile.Resources {
		r := bunfile.Resources{
			CPUShares:   maybe(t, "cpu_shares", rapid.Int64Range(2, 262144)),
			CPUQuota:    maybe(t, "cpu_quota", rapid.Int64Range(1000, 1<<40)),
			MemoryLimit: maybe(t, "memory", rapid.Map(rapid.Int64Range(1<<20, 1<<50), func(n int64) bunfile.Size { return bunfile.Size(n) })),
			BlkioWeight: maybe(t, "blkio", rapid.IntRange(10, 1000)),
			PidsLimit:   maybe(t, "pids", rapid.Int64Range(1, 1<<50)),
		}
		r.MemorySwap = maybe(t, "swap", rapid.SampledFrom([]bunfile.Size{-1, r.MemoryLimit}))
		return r
	})
}

// specs generates any valid Spec without dependencies.
func specs() *rapid.Generator[bunfile.Spec] {
	return rapid.Custom(func(t *rapid.T) bunfile.Spec {
		s := bunfile.Spec{
			Version:     bunfile.Version,
			Name:        names().Draw(t, "name"),
			Image:       images().Draw(t, "image"),
			Hostname:    maybe(t, "hostname", rapid.StringMatching(`[A-Za-z0-9]{1,9}(\.[A-Za-z0-9]{1,9}){0,3}`)),
			Network:     maybe(t, "network", rapid.SampledFrom([]bunfile.Network{bunfile.NetworkBridge, bunfile.NetworkHost, bunfile.NetworkNone})),
			Ports:       ports().Draw(t, "ports"),
			Volumes:     volumes().Draw(t, "volumes"),
			Environment: environments().Draw(t, "environment"),
			EnvFile:     maybe(t, "env_file", texts().Filter(func(s string) bool { return s != "" && s[0] != '~' })),
			Resources:   resources().Draw(t, "resources"),
		}
		s.Balance.SlowStart = maybe(t, "slow start", rapid.SampledFrom([]bunfile.Duration{1e6, 10e9, 3600e9}))
		s.Balance.Weight = maybe(t, "weight", rapid.IntRange(1, bunfile.MaxWeight))
		s.Balance.Algorithm = maybe(t, "algorithm", rapid.SampledFrom(bunfile.Algorithms()))
		s.Balance.Mode = maybe(t, "balance mode", rapid.SampledFrom([]bunfile.BalanceMode{bunfile.ModeAuto, bunfile.ModeHTTP, bunfile.ModeTCP}))
		s.Balance.Prefer = maybe(t, "prefer", rapid.SampledFrom([]bunfile.Preference{bunfile.PreferAny, bunfile.PreferLocal}))
		if s.Balance.Mode == bunfile.ModeHTTP {
			s.Balance.Protocol = maybe(t, "protocol", rapid.SampledFrom([]bunfile.BackendProtocol{bunfile.ProtocolAuto, bunfile.ProtocolH2C}))
		}
		if s.Balance.Algorithm == bunfile.ConsistentHash && s.Balance.Mode == bunfile.ModeHTTP {
			name := maybe(t, "hash name", rapid.StringMatching(`[A-Za-z0-9!#$%&'*+.^_|~-]{1,9}`))
			s.Balance.Hash = rapid.SampledFrom([]bunfile.Hash{{Header: name}, {Cookie: name}}).Draw(t, "hash")
		}
		labels := rapid.MapOfN(texts().Filter(func(s string) bool { return s != "" }), texts(), 0, 4).Draw(t, "labels")
		if len(labels) > 0 {
			s.Labels = labels
		}
		if rapid.Bool().Draw(t, "healthcheck?") {
			var tcp []int
			for _, p := range s.Ports {
				if p.Protocol != bunfile.UDP {
					tcp = append(tcp, p.ContainerPort)
				}
			}
			s.Healthcheck = healthchecks(tcp).Draw(t, "healthcheck")
		}
		s.RestartPolicy = bunfile.RestartPolicy{
			Name: maybe(t, "restart", rapid.SampledFrom([]bunfile.RestartPolicyName{
				bunfile.RestartNo, bunfile.RestartAlways, bunfile.RestartOnFailure, bunfile.RestartUnlessStopped})),
			MaximumRetryCount: maybe(t, "retry count", rapid.IntRange(0, 100)),
		}
		if rapid.Bool().Draw(t, "stop_timeout?") {
			timeout := times(0).Draw(t, "stop_timeout")
			s.StopTimeout = &timeout
		}
		s.Replicas.Min = maybe(t, "min", rapid.IntRange(1, 9))
		s.Replicas.Max = maybe(t, "max", rapid.IntRange(9, 20))
		return s
	})
}

// specFiles generates the containers of a file: different names, and each
// depends on some of those before it.
func specFiles() *rapid.Generator[[]bunfile.Spec] {
	return rapid.Custom(func(t *rapid.T) []bunfile.Spec {
		out := rapid.SliceOfNDistinct(specs(), 1, 4, func(s bunfile.Spec) string { return s.Name }).Draw(t, "specs")
		for i := range out {
			for j := range i {
				if rapid.Bool().Draw(t, "depends?") {
					out[i].DependsOn = append(out[i].DependsOn, out[j].Name)
				}
			}
		}
		return rapid.Permutation(out).Draw(t, "order")
	})
}
