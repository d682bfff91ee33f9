package bunfile_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

func ExampleParse() {
	specs, err := bunfile.Parse("web.bun", []byte(`
version: "1.0"
image: {command: [./server, --verbose]}
ports: [{container_port: 80, host_port: 8080}]
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	s := specs[0].WithDefaults()
	fmt.Println(s.Name, s.Image.Command, s.Ports[0].HostPort, s.Ports[0].Protocol, s.StopTimeout)
	// Output: web [./server --verbose] 8080 tcp 10s
}

// Every problem is shown at once, with its line and what was meant.
func ExampleParse_errors() {
	_, err := bunfile.Parse("web.bun", []byte(`version: "1.0"
image: {command: [./server]}
prots:
  - container_port: 80
restart_policy: {name: allways}
`))
	fmt.Println(err)
	// Output:
	// web.bun:3:1: unknown key "prots"
	//   3 | prots:
	//     | ^
	//   hint: did you mean ports?
	// web.bun:5:24: restart_policy.name: "allways" is not known: want no, always, on-failure or unless-stopped
	//   5 | restart_policy: {name: allways}
	//     |                        ^
	//   hint: did you mean always?
}

func ExampleMarshal() {
	text, err := bunfile.Marshal(bunfile.Spec{
		Version:     bunfile.Version,
		Name:        "web",
		Image:       bunfile.Image{Command: []string{"./server", "--port=80"}},
		Ports:       []bunfile.Port{{ContainerPort: 80}},
		Healthcheck: &bunfile.Healthcheck{TCP: 80, Interval: bunfile.Duration(5 * time.Second)},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(string(text))
	// Output:
	// version: "1.0"
	// name: web
	// image:
	//   command:
	//     - "./server"
	//     - "--port=80"
	// ports:
	//   - container_port: 80
	// healthcheck:
	//   tcp: 80
	//   interval: 5s
}

func ExampleSpec_Validate() {
	s := bunfile.Spec{
		Version: bunfile.Version,
		Name:    "web",
		Image:   bunfile.Image{Command: []string{"./server"}},
		Ports:   []bunfile.Port{{ContainerPort: 80}, {ContainerPort: 70000}},
	}
	fmt.Println(s.Validate())
	// Output: ports[1].container_port: 70000 is out of range: want 1 to 65535
}

func ExampleStartOrder() {
	specs, err := bunfile.Parse("shop.bun", []byte(`
version: "1.0"
name: web
image: {command: [./web]}
depends_on: [db]
---
version: "1.0"
name: db
image: {command: [./db]}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	ordered, err := bunfile.StartOrder(specs)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range ordered {
		fmt.Println(s.Name)
	}
	ordered[1].DependsOn = []string{"cache"}
	_, err = bunfile.StartOrder(ordered)
	fmt.Println(errors.Is(err, bunfile.ErrUnknownDependency))
	// Output:
	// db
	// web
	// true
}
