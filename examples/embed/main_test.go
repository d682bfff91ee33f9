//go:build unix

package main

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// E1: from a .bun file to a URL in at most 15 lines.
func TestCaseE1FifteenLines(t *testing.T) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "main.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Name.Name != "main" {
			continue
		}
		lines := fset.Position(fn.Body.Rbrace).Line - fset.Position(fn.Body.Lbrace).Line - 1
		if lines > 15 {
			t.Errorf("main has %d lines", lines)
		}
		return
	}
	t.Fatal("no main")
}

func TestEmbed(t *testing.T) {
	dir := t.TempDir()
	for name, pkg := range map[string]string{"embed": ".", "testserver": "../../internal/testserver"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg).CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
	}
	file := filepath.Join(dir, "web.bun")
	text := "version: \"1.0\"\nimage: {command: [./testserver]}\nports: [{container_port: 80}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "embed"), "-file", file)
	cmd.Env = append(os.Environ(), "BUDGIE_DATA_DIR="+filepath.Join(dir, "data"), "BUDGIE_BIND=127.0.0.1", "BUDGIE_INTERFACES="+loopback())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Get(strings.TrimSpace(url))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || !strings.HasPrefix(string(body), "web ") {
		t.Errorf("got %q, %v", body, err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after an interrupt: %v", err)
	}
}

// loopback returns the name of the loopback interface.
func loopback() string {
	ifaces, _ := net.Interfaces()
	for _, i := range ifaces {
		if i.Flags&net.FlagLoopback != 0 {
			return i.Name
		}
	}
	return ""
}
