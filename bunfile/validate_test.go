package bunfile_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/bunfile"
)

func valid() bunfile.Spec {
	return bunfile.Spec{Version: bunfile.Version, Name: "web", Image: bunfile.Image{DockerImage: "nginx"}}
}

func TestValidateNamesTheKey(t *testing.T) {
	if err := valid().Validate(); err != nil {
		t.Fatal(err)
	}
	timeout := bunfile.Duration(-1)
	for want, change := range map[string]func(s *bunfile.Spec){
		`version: the key "version" is missing`:                     func(s *bunfile.Spec) { s.Version = "" },
		`name: the container has no name`:                           func(s *bunfile.Spec) { s.Name = "" },
		`image: nothing to run`:                                     func(s *bunfile.Spec) { s.Image = bunfile.Image{} },
		`labels.a: "\xff" is not UTF-8 text`:                        func(s *bunfile.Spec) { s.Labels = map[string]string{"a": "\xff"} },
		`labels["a b"]: "\x00" contains a NUL`:                      func(s *bunfile.Spec) { s.Labels = map[string]string{"a b": "\x00"} },
		`ports[1].container_port: 70000 is out of range`:            func(s *bunfile.Spec) { s.Ports = []bunfile.Port{{ContainerPort: 80}, {ContainerPort: 70000}} },
		`ports[0].container_port: the key "container_port" is miss`: func(s *bunfile.Spec) { s.Ports = []bunfile.Port{{}} },
		`ports[0].host_port: -1 is out of range: want 0 to 65535`:   func(s *bunfile.Spec) { s.Ports = []bunfile.Port{{ContainerPort: 1, HostPort: -1}} },
		`volumes[0].target: the volume has no target`:               func(s *bunfile.Spec) { s.Volumes = []bunfile.Volume{{Source: "a"}} },
		`environment[0]: the value of "A" contains a NUL`:           func(s *bunfile.Spec) { s.Environment = []string{"A=secret\x00"} },
		`healthcheck: want exactly one`:                             func(s *bunfile.Spec) { s.Healthcheck = &bunfile.Healthcheck{} },
		`healthcheck.interval: -1ns is too short`:                   func(s *bunfile.Spec) { s.Healthcheck = &bunfile.Healthcheck{Command: []string{"a"}, Interval: -1} },
		`healthcheck.tcp: 70000 is out of range: want 1 to 65535`:   func(s *bunfile.Spec) { s.Healthcheck = &bunfile.Healthcheck{TCP: 70000} },
		`healthcheck.tcp: 53 is not the container_port of a TCP po`: func(s *bunfile.Spec) {
			s.Ports, s.Healthcheck = []bunfile.Port{{ContainerPort: 53, Protocol: bunfile.UDP}}, &bunfile.Healthcheck{TCP: 53}
		},
		`stop_timeout: -1ns is less than nothing`:          func(s *bunfile.Spec) { s.StopTimeout = &timeout },
		`replicas.min: -1 is out of range: want 1 or more`: func(s *bunfile.Spec) { s.Replicas.Min = -1 },
		`resources.memory_limit: 5 bytes is too little`:    func(s *bunfile.Spec) { s.Resources.MemoryLimit = 5 },
		`depends_on[0]: "web" depends on itself`:           func(s *bunfile.Spec) { s.DependsOn = []string{"web"} },
	} {
		s := valid()
		change(&s)
		err := s.Validate()
		errs, ok := errors.AsType[bunfile.Errors](err)
		if !ok || len(errs) != 1 || !strings.HasPrefix(err.Error(), want) || errs[0].Line != 0 || errs[0].File != "" {
			t.Errorf("%v; want %s", err, want)
		}
	}
}

func TestValidateReportsEverything(t *testing.T) {
	errs, ok := errors.AsType[bunfile.Errors](bunfile.Spec{}.Validate())
	if !ok || len(errs) != 3 {
		t.Errorf("%v", errs)
	}
}

func TestMarshalRefusesWhatParseWould(t *testing.T) {
	lonely := valid()
	lonely.DependsOn = []string{"db"}
	huge := valid()
	huge.Environment = []string{"A=" + strings.Repeat("x", bunfile.MaxSize)}
	for want, specs := range map[string][]bunfile.Spec{
		"there is no container to write":                             nil,
		`container 1: version: the key`:                              {{}},
		`web: name: name "web" is given twice; first in container 1`: {valid(), valid()},
		`web: depends_on[0]: there is no container "db"`:             {lonely},
		"the file would not be readable: the file has":               {huge},
	} {
		text, err := bunfile.Marshal(specs...)
		if text != nil || err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
	if _, err := bunfile.Marshal(huge); !errors.Is(err, bunfile.ErrTooLarge) {
		t.Error("no ErrTooLarge")
	}
	if _, err := bunfile.Marshal(lonely); !errors.Is(err, bunfile.ErrUnknownDependency) {
		t.Error("no ErrUnknownDependency")
	}
}

func chain(links ...string) []bunfile.Spec {
	var out []bunfile.Spec
	for _, link := range links {
		name, deps, _ := strings.Cut(link, ":")
		s := valid()
		s.Name = name
		s.DependsOn = strings.Fields(deps)
		out = append(out, s)
	}
	return out
}

func TestStartOrder(t *testing.T) {
	for _, test := range []struct {
		in   []string
		want string
	}{
		{nil, ""},
		{[]string{"a", "b", "c"}, "a b c"},
		{[]string{"c", "b", "a"}, "c b a"},
		{[]string{"a: c", "b", "c"}, "c a b"},
		{[]string{"a: c b", "b: c", "c", "d"}, "c b a d"},
	} {
		out, err := bunfile.StartOrder(chain(test.in...))
		var names []string
		for _, s := range out {
			names = append(names, s.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != test.want {
			t.Errorf("%q: %s, %v; want %s", test.in, got, err, test.want)
		}
	}
}

func TestStartOrderErrors(t *testing.T) {
	for _, test := range []struct {
		in   []string
		is   error
		want string
	}{
		{[]string{"a: b", "b: a"}, bunfile.ErrCycle, "b: depends_on[0]: depends_on goes in a circle: a → b → a"},
		{[]string{"x", "a: b", "b: c x", "c: b"}, bunfile.ErrCycle, "c: depends_on[0]: depends_on goes in a circle: b → c → b"},
		{[]string{"a: a"}, bunfile.ErrCycle, `a: depends_on[0]: "a" depends on itself`},
		{[]string{"web: bd", "db"}, bunfile.ErrUnknownDependency, "web: depends_on[0]: there is no container \"bd\" in the file\n  hint: did you mean db?"},
		{[]string{"a", "a"}, nil, `a: name: name "a" is given twice; first in container 1 of the file`},
	} {
		out, err := bunfile.StartOrder(chain(test.in...))
		if out != nil || err == nil || test.is != nil && !errors.Is(err, test.is) || err.Error() != test.want {
			t.Errorf("%q: %v, %v; want %s", test.in, out, err, test.want)
		}
	}
}

func TestLongCircleIsCutShort(t *testing.T) {
	var links []string
	for i := range 50 {
		links = append(links, "n"+string(rune('a'+i/26))+string(rune('a'+i%26))+": n"+string(rune('a'+(i+1)%50/26))+string(rune('a'+(i+1)%50%26)))
	}
	_, err := bunfile.StartOrder(chain(links...))
	if !errors.Is(err, bunfile.ErrCycle) || !strings.Contains(err.Error(), "→ … → naa") || len(err.Error()) > 300 {
		t.Error(err)
	}
}

func TestWithDefaults(t *testing.T) {
	s := valid()
	s.Ports = []bunfile.Port{{ContainerPort: 80}, {ContainerPort: 53, Protocol: bunfile.UDP}}
	s.Volumes = []bunfile.Volume{{Source: "a", Target: "/a"}, {Source: "b", Target: "/b", Mode: bunfile.ReadOnly}}
	s.Healthcheck = &bunfile.Healthcheck{Path: "/", Retries: 7}
	full := s.WithDefaults()
	if full.Image.Pull != bunfile.PullMissing || full.Balance != (bunfile.Balance{Algorithm: bunfile.RoundRobin, Mode: bunfile.ModeAuto, Protocol: bunfile.ProtocolAuto, Prefer: bunfile.PreferAny}) ||
		full.Ports[0].Protocol != bunfile.TCP || full.Ports[1].Protocol != bunfile.UDP ||
		full.Volumes[0].Mode != bunfile.ReadWrite || full.Volumes[1].Mode != bunfile.ReadOnly ||
		full.RestartPolicy.Name != bunfile.RestartNo || full.Replicas.Min != 1 || full.Replicas.Max != 0 ||
		full.StopTimeout.Std() != bunfile.DefaultStopTimeout || full.Network != "" || full.Hostname != "" {
		t.Errorf("%+v", full)
	}
	h := full.Healthcheck
	if h.Interval.Std() != bunfile.DefaultHealthInterval || h.Timeout.Std() != bunfile.DefaultHealthTimeout || h.Retries != 7 || h.StartPeriod != 0 {
		t.Errorf("%+v", h)
	}
	command := bunfile.Spec{Image: bunfile.Image{Command: []string{"a"}}}.WithDefaults()
	if command.Image.Pull != "" || command.Version != bunfile.Version {
		t.Errorf("%+v", command)
	}
}

func TestErrorsUnwrap(t *testing.T) {
	_, err := bunfile.Parse("x.bun", []byte("version: \"1.0\"\nimage: {docker_image: nginx}\ndepends_on: [db]\n"))
	one, ok := errors.AsType[*bunfile.Error](err)
	if !ok || one.Path != "depends_on[0]" || one.Line != 3 || one.Column != 14 || one.Snippet != "depends_on: [db]" {
		t.Errorf("%#v", one)
	}
	if !errors.Is(err, bunfile.ErrUnknownDependency) || errors.Is(err, bunfile.ErrCycle) {
		t.Error(err)
	}
}

func TestParseTakesItsNameFromTheFile(t *testing.T) {
	text := []byte("version: \"1.0\"\nimage: {docker_image: nginx}\n")
	for filename, want := range map[string]string{"web.bun": "web", "/a/b/db.bun": "db", "web": "web", "web.yaml": "web"} {
		specs, err := bunfile.Parse(filename, text)
		if err != nil || specs[0].Name != want {
			t.Errorf("%q: %v, %v", filename, specs, err)
		}
	}
	for _, filename := range []string{"", "-", ".bun", "web.prod.bun", "日本.bun"} {
		if _, err := bunfile.Parse(filename, text); err == nil || !strings.Contains(err.Error(), "add name: ") {
			t.Errorf("%q: %v", filename, err)
		}
	}
}

func TestEmptyListsAreAbsent(t *testing.T) {
	specs, err := bunfile.Parse("x.bun", []byte("version: \"1.0\"\nimage: {docker_image: nginx, command: []}\nports: []\nlabels: {}\nenvironment: {}\ndepends_on: []\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s := specs[0]; s.Image.Command != nil || s.Ports != nil || s.Labels != nil || s.Environment != nil || s.DependsOn != nil {
		t.Errorf("%+v", s)
	}
}

func TestScalarsAreTakenAsWritten(t *testing.T) {
	specs, err := bunfile.Parse("x.bun", []byte(`version: 1.0
image: {docker_image: nginx, command: [1.10, 010, 0x1f, 1e3, yes, True, .5, 2024-01-01, 1_000, "12:30"]}
depends_on: []
labels: {a: 0777, b: 1.0, c: off, d: 'null'}
environment: {V: 1.10, N: 007}
`))
	if err != nil {
		t.Fatal(err)
	}
	s := specs[0]
	if want := []string{"1.10", "010", "0x1f", "1e3", "yes", "True", ".5", "2024-01-01", "1_000", "12:30"}; !slices.Equal(s.Image.Command, want) {
		t.Errorf("%q", s.Image.Command)
	}
	if s.Labels["a"] != "0777" || s.Labels["b"] != "1.0" || s.Labels["c"] != "off" || s.Labels["d"] != "null" {
		t.Errorf("%q", s.Labels)
	}
	if !slices.Equal(s.Environment, []string{"V=1.10", "N=007"}) {
		t.Errorf("%q", s.Environment)
	}
}

func TestAnchorsAndMergeKeys(t *testing.T) {
	specs, err := bunfile.Parse("x.bun", []byte(`version: "1.0"
name: a
image: &i {docker_image: nginx}
labels: &l {x: "1", y: "2"}
environment: {<<: [*l, {y: no, z: "3"}], x: own}
`))
	if err != nil {
		t.Fatal(err)
	}
	if got := specs[0].Environment; !slices.Equal(got, []string{"x=own", "y=2", "z=3"}) {
		t.Errorf("%q", got)
	}
	_, err = bunfile.Parse("x.bun", []byte("version: \"1.0\"\nname: a\nimage: &i {docker_image: nginx}\n---\nversion: \"1.0\"\nname: b\nimage: *i\n"))
	if err == nil || !strings.Contains(err.Error(), "x.bun:7:8: there is no anchor &i above") {
		t.Errorf("an anchor of another document: %v", err)
	}
}
