package peer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
)

var (
	someID   = strings.Repeat("0a", 32)
	someNode = strings.Repeat("1b", 32)
)

func someContainer() Container {
	return Container{
		ID: someID, ServiceID: someID, Name: "web", Node: someNode, State: lifecycle.Running, Runtime: "process",
		Endpoints: []lifecycle.Endpoint{{ContainerPort: 80, Protocol: bunfile.TCP, Host: "fe80::1%eth0", Port: 8080}},
	}
}

// Whatever comes as a list of containers: what is taken keeps the rules, and is
// the same after another trip.
func FuzzContainers(f *testing.F) {
	data, err := encodeList(Told{[]Container{someContainer()}, &Hosting{Joining: []string{someID}, Unable: []string{someNode}, Commands: true}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"containers":null}`))
	f.Add([]byte(`{"containers":[{}]}`))
	f.Add(bytes.Repeat([]byte(`{"containers":[`), 1000))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, ok, err := decodeList(data, someNode)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || ok || got.Containers != nil || got.Hosting != nil {
				t.Errorf("%v, %v, %v", got, ok, err)
			}
			for _, r := range err.Error() {
				if unicode.IsControl(r) {
					t.Errorf("control characters in %q", err)
				}
			}
			return
		}
		for _, c := range got.Containers {
			if err := c.check(); err != nil || c.Node != someNode {
				t.Errorf("took %+v: %v", c, err)
			}
		}
		if !ok {
			return
		}
		again, err := encodeList(got)
		if err != nil {
			return // too large with all fields
		}
		if back, ok, err := decodeList(again, someNode); err != nil || !ok || len(back.Containers) != len(got.Containers) || len(got.Containers) > 0 && !reflect.DeepEqual(back.Containers, got.Containers) || got.Hosting.check() != nil {
			t.Errorf("%+v came back as %+v, %v", got, back, err)
		}
	})
}

// Whatever comes as a stream of events: it ends with an error, and no line is
// longer than allowed.
func FuzzEventLines(f *testing.F) {
	f.Add([]byte("{}\n{\"containers\":[]}\n{}"), 16)
	f.Add([]byte("\n\n\r\n\x00"), 1)
	f.Add(bytes.Repeat([]byte("x"), 10000), 5000)
	f.Fuzz(func(t *testing.T, data []byte, most int) {
		if most < 1 || most > 1<<16 {
			return
		}
		r := bufio.NewReader(bytes.NewReader(data))
		var all []byte
		for {
			line, err := readLine(r, most)
			if err != nil {
				if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrInvalid) {
					t.Errorf("got %v", err)
				}
				break
			}
			if len(line) > most || bytes.ContainsRune(line, '\n') {
				t.Errorf("a line of %d bytes, where %d are allowed", len(line), most)
			}
			all = append(append(all, line...), '\n')
			_, _, _ = decodeList(line, someNode) // must not panic
		}
		if !bytes.HasPrefix(data, all) {
			t.Error("what was read is not what came")
		}
	})
}

// Whatever comes as an error, its text is fit to be shown.
func FuzzErrors(f *testing.F) {
	f.Add(404, []byte(`{"errors":[{"code":"X","message":"a\u001b[31mb"}]}`))
	f.Add(500, []byte(`{"errors":[]}`))
	f.Add(200, []byte(``))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}
		err := judge(resp, http.StatusOK)
		if status == http.StatusOK {
			if err != nil {
				t.Errorf("got %v", err)
			}
			return
		}
		if err == nil || len(err.Error()) > 4*maxText+100 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("status %d: %q", status, err)
		}
	})
}

// The JSON that nodes of this version speak.
func TestWireFormat(t *testing.T) {
	data, err := encodeList(Told{Containers: []Container{someContainer()}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"containers":[{"id":"` + someID + `","service_id":"` + someID + `","name":"web","node":"` + someNode + `","state":"running","runtime":"process",` +
		`"endpoints":[{"container_port":80,"protocol":"tcp","host":"fe80::1%eth0","port":8080}]}]}` + "\n"
	if string(data) != want {
		t.Errorf("got  %swant %s", data, want)
	}
	if data, err := encodeList(Told{}); err != nil || string(data) != "{\"containers\":[]}\n" {
		t.Errorf("no containers: %q, %v", data, err)
	}
	host := Told{Hosting: &Hosting{Joining: []string{someID}, Unable: []string{someNode}}}
	data, err = encodeList(host)
	want = `{"containers":[],"hosting":{"joining":["` + someID + `"],"unable":["` + someNode + `"]}}` + "\n"
	if err != nil || string(data) != want {
		t.Errorf("a host: %s, %v; want %s", data, err, want)
	}
	if back, ok, err := decodeList(data, someNode); err != nil || !ok || !reflect.DeepEqual(back.Hosting, host.Hosting) {
		t.Errorf("a host came back as %+v, %v", back.Hosting, err)
	}
}

// What a host may not say.
func TestHostingIsChecked(t *testing.T) {
	for name, hosting := range map[string]string{
		"NoID":     `{"unable":["web"]}`,
		"TooMany":  `{"joining":["` + strings.Repeat(someID+`","`, mostHosted) + someID + `"]}`,
		"NoObject": `[]`,
		"NoList":   `{"joining":"` + someID + `"}`,
	} {
		if told, _, err := decodeList([]byte(`{"containers":[],"hosting":`+hosting+`}`), someNode); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: took %+v, %v", name, told.Hosting, err)
		}
	}
}

// Numbers that no container has.
func TestNumbersAreChecked(t *testing.T) {
	for want, change := range map[string]func(*Container){
		"max_replicas":          func(c *Container) { c.MaxReplicas = -1 },
		"weight: want 0 to 256": func(c *Container) { c.Weight = 257 },
		"weight":                func(c *Container) { c.Weight = -1 },
	} {
		c := someContainer()
		change(&c)
		data, err := encodeList(Told{Containers: []Container{c}})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := decodeList(data, someNode); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A list that is too long in bytes or in number is neither sent nor taken.
func TestListsAreBounded(t *testing.T) {
	var many []Container
	for range mostContainers + 1 {
		many = append(many, Container{})
	}
	data, err := json.Marshal(list{Containers: &many})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := decodeList(data, someNode); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "4096") {
		t.Errorf("got %v", err)
	}
	large := someContainer()
	large.Image = strings.Repeat("a", maxList)
	if _, err := encodeList(Told{Containers: []Container{large}}); err == nil {
		t.Error("a list that nobody takes would be sent")
	}
}
