package discovery_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"pgregory.net/rapid"
)

func web() discovery.Service {
	return discovery.Service{
		ID:        strings.Repeat("0123456789abcdef", 4),
		ServiceID: strings.Repeat("fedcba9876543210", 4),
		Name:      "web",
		Image:     "docker.io/library/nginx:1.29",
		Node:      "node-1",
		Flock:     "f10c",
		Ports: []discovery.Port{
			{ContainerPort: 80, HostPort: 8080, Protocol: bunfile.TCP, HTTP: true},
			{ContainerPort: 53, HostPort: 5353, Protocol: bunfile.UDP},
			{ContainerPort: 5432, HostPort: 5432, Protocol: bunfile.TCP},
		},
	}
}

func run(first, host, n int, protocol bunfile.Protocol) []discovery.Port {
	var ports []discovery.Port
	for i := range n {
		ports = append(ports, discovery.Port{ContainerPort: first + i, HostPort: host + i, Protocol: protocol})
	}
	return ports
}

func TestEncodeTXT(t *testing.T) {
	svc := web()
	got, err := discovery.EncodeTXT(svc)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"v=1", "id=" + svc.ID, "sid=" + svc.ServiceID, "name=web", "node=node-1", "flock=f10c",
		"image=docker.io/library/nginx:1.29", "ports=80:8080/http,53:5353/udp,5432:5432/tcp",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestEncodeTXTLeavesOutWhatIsEmpty(t *testing.T) {
	svc := web()
	svc.Flock, svc.Image, svc.Ports = "", "", nil
	got, err := discovery.EncodeTXT(svc)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 5 {
		t.Errorf("got %q, want five strings", got)
	}
	back, err := discovery.DecodeTXT(got)
	if err != nil || !back.Equal(svc) {
		t.Errorf("decoded %+v, %v", back, err)
	}
}

func TestTXTRoundTripOfExtremes(t *testing.T) {
	for name, change := range map[string]func(*discovery.Service){
		"longest image":  func(s *discovery.Service) { s.Image = strings.Repeat("i", discovery.MaxImage) },
		"split image":    func(s *discovery.Service) { s.Image = strings.Repeat("i=", 125) },
		"run of ports":   func(s *discovery.Service) { s.Ports = run(30000, 40000, discovery.MaxPorts, bunfile.UDP) },
		"highest ports":  func(s *discovery.Service) { s.Ports = run(65530, 65530, 6, bunfile.TCP) },
		"two equal":      func(s *discovery.Service) { s.Ports = slices.Concat(run(80, 80, 1, "tcp"), run(80, 80, 1, "tcp")) },
		"falling":        func(s *discovery.Service) { s.Ports = slices.Concat(run(81, 81, 1, "tcp"), run(80, 80, 1, "tcp")) },
		"longest fields": longest,
		"host":           func(s *discovery.Service) { s.Host, s.Image, s.Ports = true, "", nil },
	} {
		t.Run(name, func(t *testing.T) {
			svc := web()
			change(&svc)
			txt, err := discovery.EncodeTXT(svc)
			if err != nil {
				t.Fatal(err)
			}
			back, err := discovery.DecodeTXT(txt)
			if err != nil {
				t.Fatal(err)
			}
			if !back.Equal(svc) {
				t.Errorf("got  %+v\nwant %+v", back, svc)
			}
		})
	}
}

// longest makes every field as long as it may be, and leaves ports what remains.
func longest(s *discovery.Service) {
	s.Name = strings.Repeat("n", 63)
	s.ServiceID, s.Node, s.Flock = strings.Repeat("s", 80), strings.Repeat("~", 80), strings.Repeat("!", 80)
	s.Image = strings.Repeat("i", discovery.MaxImage)
	s.Ports = nil
	for i := range 11 {
		s.Ports = append(s.Ports, discovery.Port{ContainerPort: 60000 + 2*i, HostPort: 50000 + 2*i, Protocol: bunfile.TCP, HTTP: true})
	}
}

func TestEncodeTXTRefuses(t *testing.T) {
	scattered := func(s *discovery.Service) {
		for i := range 80 {
			s.Ports = append(s.Ports, discovery.Port{ContainerPort: 10000 + 2*i, HostPort: 10000 + 2*i, Protocol: bunfile.TCP})
		}
	}
	port := func(p discovery.Port) func(*discovery.Service) {
		return func(s *discovery.Service) { s.Ports = []discovery.Port{p} }
	}
	for name, c := range map[string]struct {
		change func(*discovery.Service)
		says   string
	}{
		"no id":            {func(s *discovery.Service) { s.ID = "" }, "64"},
		"id of capitals":   {func(s *discovery.Service) { s.ID = strings.Repeat("A", 64) }, "lower-case"},
		"id not hex":       {func(s *discovery.Service) { s.ID = strings.Repeat("g", 64) }, "hexadecimal"},
		"no name":          {func(s *discovery.Service) { s.Name = "" }, "name"},
		"long name":        {func(s *discovery.Service) { s.Name = strings.Repeat("n", 64) }, "63"},
		"capital":          {func(s *discovery.Service) { s.Name = "Web" }, "lower-case"},
		"dot":              {func(s *discovery.Service) { s.Name = "a.b" }, "hyphens"},
		"first hyphen":     {func(s *discovery.Service) { s.Name = "-a" }, "inner"},
		"last hyphen":      {func(s *discovery.Service) { s.Name = "a-" }, "inner"},
		"no service id":    {func(s *discovery.Service) { s.ServiceID = "" }, "service id"},
		"space":            {func(s *discovery.Service) { s.Node = "a b" }, "node id"},
		"long node":        {func(s *discovery.Service) { s.Node = strings.Repeat("n", 81) }, "80"},
		"flock not ASCII":  {func(s *discovery.Service) { s.Flock = "vögel" }, "flock"},
		"image line break": {func(s *discovery.Service) { s.Image = "a\nb" }, "image"},
		"long image":       {func(s *discovery.Service) { s.Image = strings.Repeat("i", discovery.MaxImage+1) }, "520"},
		"peer port":        {func(s *discovery.Service) { s.PeerPort = -1 }, "peer port"},
		"no host port":     {port(discovery.Port{ContainerPort: 80, Protocol: "tcp"}), "between 1 and 65535"},
		"high port":        {port(discovery.Port{ContainerPort: 65536, HostPort: 1, Protocol: "tcp"}), "65536"},
		"no protocol":      {port(discovery.Port{ContainerPort: 80, HostPort: 80}), "protocol"},
		"HTTP over UDP":    {port(discovery.Port{ContainerPort: 80, HostPort: 80, Protocol: "udp", HTTP: true}), "HTTP"},
		"many ports":       {func(s *discovery.Service) { s.Ports = run(1, 1, discovery.MaxPorts+1, "tcp") }, "1024"},
		"scattered ports":  {scattered, "fewer ports"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := web()
			c.change(&svc)
			_, err := discovery.EncodeTXT(svc)
			if !errors.Is(err, discovery.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v that says %q", err, discovery.ErrInvalid, c.says)
			}
		})
	}
}

// replace returns the encoding of web with the value of one key changed, or,
// for the value "-", without it.
func replace(t testing.TB, key, value string) []string {
	t.Helper()
	txt, err := discovery.EncodeTXT(web())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(txt, func(s string) bool { return strings.HasPrefix(s, key+"=") })
	if value == "-" {
		return slices.Delete(txt, i, i+1)
	}
	txt[i] = key + "=" + value
	return txt
}

func TestDecodeTXTRefuses(t *testing.T) {
	var wide []string
	for range 5 {
		wide = append(wide, "x="+strings.Repeat("x", 250))
	}
	cases := map[string][]string{
		"nothing":        nil,
		"one empty":      {""},
		"no version":     replace(t, "v", "-"),
		"version flag":   append(replace(t, "v", "-"), "v"),
		"long string":    append(replace(t, "v", "1"), strings.Repeat("x", 256)),
		"too much":       slices.Concat(replace(t, "v", "1"), wide),
		"no id":          replace(t, "id", "-"),
		"short id":       replace(t, "id", "0123"),
		"no name":        replace(t, "name", "-"),
		"control name":   replace(t, "name", "a\x00b"),
		"control image":  replace(t, "image", "a\x1b[2Jb"),
		"no node":        replace(t, "node", ""),
		"no service id":  replace(t, "sid", "-"),
		"flock bytes":    replace(t, "flock", "\xff\xfe"),
		"missing part":   append(replace(t, "ports", "80:80/tcp,"), "ports2=81:81/tcp"),
		"host unknown":   append(replace(t, "image", "-")[:7], "host=2"),
		"host with port": append(replace(t, "image", "-"), "host=1"),
		"expanding runs": replace(t, "ports", strings.Repeat("1+65534:1/tcp,", 10)+"1:1/tcp"),
	}
	for _, v := range []string{"", "0", "2", "01", "1.0", " 1", "1 "} {
		cases["version "+v] = replace(t, "v", v)
	}
	for _, p := range []string{
		",", "80", "80:80", "80/tcp", "80:80/", "80:80/TCP", "80:80/sctp", "80:80/tcp/http", ":/tcp", "0:80/tcp", "80:0/tcp",
		"65536:80/tcp", "80:65536/tcp", "-1:80/tcp", "+1:80/tcp", "080:80/tcp", "80: 80/tcp", "80:80/tcp,,81:81/tcp", "80:80/tcp,",
		"80+0:80/tcp", "80+:80/tcp", "80+1+1:80/tcp", "80+01:80/tcp", "65535+1:80/tcp", "80:65535+1/tcp", "80+1:65535/tcp",
		"1+1024:1/tcp", "99999999999999999999:80/tcp", "80:80/tcp;81:81/tcp", "٨:80/tcp",
	} {
		cases["ports "+p] = replace(t, "ports", p)
	}
	for name, txt := range cases {
		if svc, err := discovery.DecodeTXT(txt); !errors.Is(err, discovery.ErrInvalid) {
			t.Errorf("%s: got %+v, %v, want %v", name, svc, err, discovery.ErrInvalid)
		}
	}
}

// RFC 6763 section 6.4.
func TestDecodeTXTTolerates(t *testing.T) {
	want := web()
	want.Ports = nil
	plain := replace(t, "ports", "-")
	for name, txt := range map[string][]string{
		"unknown key":      append(slices.Clone(plain), "later=1"),
		"unknown flag":     append(slices.Clone(plain), "later"),
		"no key":           append(slices.Clone(plain), "=x", ""),
		"second value":     append(slices.Clone(plain), "name=other", "v=2"),
		"other order":      reversed(plain),
		"capital keys":     capitals(plain),
		"empty ports":      append(slices.Clone(plain), "ports="),
		"continued too":    append(slices.Clone(plain), "image2=x"),
		"binary elsewhere": append(slices.Clone(plain), "later=\x00\xff"),
	} {
		got, err := discovery.DecodeTXT(txt)
		if err != nil || !got.Equal(want) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func reversed(txt []string) []string {
	txt = slices.Clone(txt)
	slices.Reverse(txt)
	return txt
}

func capitals(txt []string) []string {
	var list []string
	for _, s := range txt {
		key, value, _ := strings.Cut(s, "=")
		list = append(list, strings.ToUpper(key)+"="+value)
	}
	return list
}

// anyService draws services that can be announced, as far as their size goes.
func anyService() *rapid.Generator[discovery.Service] {
	port := rapid.Custom(func(t *rapid.T) discovery.Port {
		p := discovery.Port{
			ContainerPort: rapid.IntRange(1, 65535).Draw(t, "container port"),
			HostPort:      rapid.IntRange(1, 65535).Draw(t, "host port"),
			Protocol:      rapid.SampledFrom([]bunfile.Protocol{bunfile.TCP, bunfile.UDP}).Draw(t, "protocol"),
		}
		p.HTTP = p.Protocol == bunfile.TCP && rapid.Bool().Draw(t, "http")
		return p
	})
	return rapid.Custom(func(t *rapid.T) discovery.Service {
		return discovery.Service{
			ID:        rapid.StringMatching(`[0-9a-f]{64}`).Draw(t, "id"),
			ServiceID: rapid.StringMatching(`[!-~]{1,80}`).Draw(t, "service id"),
			Name:      rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`).Draw(t, "name"),
			Image:     rapid.StringMatching(`[!-~]{0,520}`).Draw(t, "image"),
			Node:      rapid.StringMatching(`[!-~]{1,80}`).Draw(t, "node"),
			Flock:     rapid.StringMatching(`[!-~]{0,80}`).Draw(t, "flock"),
			Ports:     rapid.SliceOfN(port, 0, 30).Draw(t, "ports"),
		}
	})
}

func TestTXTRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		svc := anyService().Draw(t, "service")
		txt, err := discovery.EncodeTXT(svc)
		if err != nil {
			// The one rule that the drawn services may break.
			if !strings.Contains(err.Error(), "publish fewer ports") || len(svc.Ports) < 12 {
				t.Fatal(err)
			}
			return
		}
		size := 0
		for _, s := range txt {
			size += 1 + len(s)
			if len(s) > 255 {
				t.Fatalf("string of %d bytes", len(s))
			}
		}
		if size >= discovery.MaxTXT {
			t.Fatalf("record of %d bytes", size)
		}
		back, err := discovery.DecodeTXT(txt)
		if err != nil {
			t.Fatal(err)
		}
		if !back.Equal(svc) {
			t.Fatalf("got  %+v\nwant %+v", back, svc)
		}
	})
}

func FuzzDecodeTXT(f *testing.F) {
	for _, svc := range []discovery.Service{web(), {}} {
		if txt, err := discovery.EncodeTXT(svc); err == nil {
			f.Add(strings.Join(txt, "\n"))
		}
	}
	f.Add("v=2")
	f.Add("=\n\nv=1\nid")
	f.Add(strings.Join(replace(f, "ports", "1+65534:1/tcp"), "\n"))
	f.Fuzz(func(t *testing.T, text string) {
		txt := strings.Split(text, "\n")
		svc, err := discovery.DecodeTXT(txt)
		if err != nil {
			if !errors.Is(err, discovery.ErrInvalid) {
				t.Fatalf("%v is not %v", err, discovery.ErrInvalid)
			}
			return
		}
		// What is accepted can be announced, and comes out the same.
		again, err := discovery.EncodeTXT(svc)
		if err != nil {
			t.Fatalf("decoded %+v, which cannot be encoded: %v", svc, err)
		}
		back, err := discovery.DecodeTXT(again)
		if err != nil || !back.Equal(svc) {
			t.Fatalf("decoded %+v and then %+v, %v", svc, back, err)
		}
	})
}

func ExampleEncodeTXT() {
	txt, err := discovery.EncodeTXT(discovery.Service{
		ID: strings.Repeat("ab", 32), ServiceID: "shop", Name: "web", Image: "nginx:1.29", Node: "left",
		Ports: []discovery.Port{{ContainerPort: 80, HostPort: 8080, Protocol: bunfile.TCP, HTTP: true}},
		// Not in the TXT record: A and SRV records carry these.
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, PeerPort: 7946,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range txt {
		fmt.Println(s)
	}
	// Output:
	// v=1
	// id=abababababababababababababababababababababababababababababababab
	// sid=shop
	// name=web
	// node=left
	// image=nginx:1.29
	// ports=80:8080/http
}

func ExampleDecodeTXT() {
	svc, err := discovery.DecodeTXT([]string{
		"v=1", "id=" + strings.Repeat("ab", 32), "sid=shop", "name=web", "node=left",
		"ports=80:8080/http,9000+1:9000/udp", "colour=green",
	})
	fmt.Println(svc.Name, svc.Ports, err)

	_, err = discovery.DecodeTXT([]string{"v=2", "name=web"})
	fmt.Println(err)
	// Output:
	// web [{80 8080 tcp true} {9000 9000 udp false} {9001 9001 udp false}] <nil>
	// invalid service: TXT record of version "2", and only 1 is known
}
