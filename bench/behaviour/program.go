//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/balance/behaviourtest"
)

// program is a proxy that is a process, with a configuration file of its own.
type program struct {
	setup  behaviourtest.Setup
	dir    string
	addr   string
	cmd    *exec.Cmd
	out    bytes.Buffer
	ended  chan struct{}
	stop   sync.Once
	config func(p *program) string
	reload func(p *program) error
	// graceful is the signal by which it ends when its connections have.
	graceful syscall.Signal
	// settle is for how long it loses signals after it accepts connections. There
	// is no sign of the end of that.
	settle time.Duration
}

// workshop is where programs get what they need.
type workshop struct {
	dir string
	// port is the last one that was given out. They are below those that the
	// kernel gives to connections.
	port atomic.Int32
}

func newWorkshop(dir string) *workshop {
	w := &workshop{dir: dir}
	w.port.Store(21_000)
	return w
}

func (w *workshop) freeAddr() (string, error) {
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", w.port.Add(1))
		if ln, err := net.Listen("tcp", addr); err == nil {
			return addr, ln.Close()
		}
	}
	return "", errors.New("a thousand ports are taken")
}

// start starts a program by a command line, in which "CONFIG" stands for the file.
func (p *program) start(ctx context.Context, w *workshop, args ...string) (behaviourtest.Proxy, error) {
	var err error
	if p.dir, err = os.MkdirTemp(w.dir, "proxy-"); err != nil {
		return nil, err
	}
	if p.addr, err = w.freeAddr(); err != nil {
		return nil, err
	}
	if err := errors.Join(p.writeCertificate(), p.writeConfig()); err != nil {
		return nil, err
	}
	for i, a := range args {
		if a == "CONFIG" {
			args[i] = p.file("config")
		}
	}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Dir = p.dir
	p.cmd.Env = append(os.Environ(), "HOME="+p.dir, "XDG_DATA_HOME="+p.dir, "XDG_CONFIG_HOME="+p.dir)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.ended = make(chan struct{})
	go func() {
		defer close(p.ended)
		p.cmd.Wait()
	}()
	if err := p.await(ctx); err != nil {
		p.Stop()
		return nil, fmt.Errorf("%w: %s", err, p.out.String())
	}
	time.Sleep(p.settle)
	return p, nil
}

func (p *program) file(name string) string { return filepath.Join(p.dir, name) }

func (p *program) writeConfig() error {
	return os.WriteFile(p.file("config"), []byte(p.config(p)), 0o600)
}

// writeCertificate writes cert.pem, key.pem, and both in one for those who want
// that.
func (p *program) writeCertificate() error {
	if !p.setup.Front.OverTLS() {
		return nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(p.setup.Certificate.PrivateKey)
	if err != nil {
		return err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.setup.Certificate.Certificate[0]})
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return errors.Join(os.WriteFile(p.file("cert.pem"), cert, 0o600), os.WriteFile(p.file("key.pem"), key, 0o600),
		os.WriteFile(p.file("both.pem"), append(cert, key...), 0o600))
}

// await waits until the program accepts connections.
func (p *program) await(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if c, err := net.Dial("tcp", p.addr); err == nil {
			return c.Close()
		}
		select {
		case <-p.ended:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return errors.New("it does not accept connections")
}

func (p *program) Addr() string { return p.addr }

func (p *program) Update(backends []string) error {
	p.setup.Backends = backends
	if err := p.writeConfig(); err != nil {
		return err
	}
	return p.reload(p)
}

// signal sends a signal to the process that was started.
func (p *program) signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// reloadBy sends a signal and waits for a process that was not there before. It
// sends it again now and then: in the middle of another reload it may be lost.
func reloadBy(s syscall.Signal) func(*program) error {
	return func(p *program) error {
		before := p.children()
		for range 5 {
			if err := p.signal(s); err != nil {
				return err
			}
			for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				for child := range p.children() {
					if !before[child] {
						return nil
					}
				}
			}
		}
		return fmt.Errorf("no new process came: %s", p.out.String())
	}
}

func (p *program) children() map[string]bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", p.cmd.Process.Pid))
	if err != nil {
		return nil // it has ended
	}
	all := map[string]bool{}
	for _, pid := range bytes.Fields(text) {
		all[string(pid)] = true
	}
	return all
}

func (p *program) Shutdown(ctx context.Context) error {
	if err := p.signal(p.graceful); err != nil {
		return err
	}
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		p.Stop()
		return ctx.Err()
	}
}

func (p *program) Stop() {
	p.stop.Do(func() {
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // the group: workers too
		<-p.ended
		os.RemoveAll(p.dir)
	})
}
