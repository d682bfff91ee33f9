package bunfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/bunfile"
)

// write puts a file into a new directory, or next to others, and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadResolvesPaths(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "sub/web.bun", `version: "1.0"
image: {command: [./server, ./argument]}
volumes:
  - {source: ./site, target: /a}
  - {source: ../up, target: /b}
  - {source: data, target: /c}
  - {source: /abs, target: /d}
env_file: conf/web.env
environment: [B=own, C=3]
`)
	write(t, dir, "sub/conf/web.env", "A=1\nB=file\n")
	t.Chdir(dir)
	for _, name := range []string{path, "sub/web.bun", "./sub/../sub/web.bun"} {
		specs, err := bunfile.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		s := specs[0]
		if s.Name != "web" {
			t.Errorf("name is %q", s.Name)
		}
		if want := []string{filepath.Join(dir, "sub/server"), "./argument"}; !slices.Equal(s.Image.Command, want) {
			t.Errorf("command is %q, want %q", s.Image.Command, want)
		}
		var sources []string
		for _, v := range s.Volumes {
			sources = append(sources, v.Source)
		}
		if want := []string{filepath.Join(dir, "sub/site"), filepath.Join(dir, "up"), filepath.Join(dir, "sub/data"), "/abs"}; !slices.Equal(sources, want) {
			t.Errorf("sources are %q, want %q", sources, want)
		}
		if want := []string{"A=1", "B=own", "C=3"}; !slices.Equal(s.Environment, want) || s.EnvFile != "" {
			t.Errorf("environment is %q with env_file %q, want %q and none", s.Environment, s.EnvFile, want)
		}
	}
}

func TestLoadLeavesProgramsOfImagesAlone(t *testing.T) {
	path := write(t, t.TempDir(), "a.bun", "version: \"1.0\"\nimage: {docker_image: nginx, command: [./server]}\n---\nversion: \"1.0\"\nname: b\nimage: {command: [server]}\n")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bunfile.Parse(path, text); err == nil || !strings.Contains(err.Error(), "each needs one") {
		t.Errorf("a file of two with one name: %v", err)
	}
	write(t, filepath.Dir(path), "a.bun", strings.Replace(string(text), "image", "name: a\nimage", 1))
	specs, err := bunfile.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := specs[0].Image.Command[0] + " " + specs[1].Image.Command[0]; got != "./server server" {
		t.Errorf("programs are %s", got)
	}
}

func TestLoadOfWhatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "web.bun", "version: \"1.0\"\n")
	write(t, dir, "[a]/in.bun", "")
	large := write(t, dir, "large.bun", strings.Repeat("#", bunfile.MaxSize+1))
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path  string
		is    error
		words string
	}{
		{"missing.bun", fs.ErrNotExist, "check the path"},
		{"web", fs.ErrNotExist, "did you mean " + filepath.Join(dir, "web.bun")},
		{"[a]", nil, "it is a directory; name a file in it, such as " + filepath.Join(dir, "[a]", "in.bun")},
		{"empty", nil, "it is a directory; name the .bun file itself"},
		{large, bunfile.ErrTooLarge, "more than 262144 bytes"},
	} {
		path := test.path
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		_, err := bunfile.Load(path)
		if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %v", test.path, err)
		}
	}
}

func TestLoadRefusesDevices(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no device files")
	}
	for _, path := range []string{os.DevNull, "/dev/zero"} {
		if _, err := bunfile.Load(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestLoadRefusesWrongText(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"empty": "", "binary": "\x7fELF\x02\x01\x01\x00\x00", "gzip": "\x1f\x8b\x08\x00"} {
		_, err := bunfile.Load(write(t, dir, name+".bun", text))
		if errs, ok := errors.AsType[bunfile.Errors](err); !ok || errs[0].Line != 1 || errs[0].Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLoadReportsEnvFiles(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "web.bun", "version: \"1.0\"\nimage: {docker_image: nginx}\nenv_file: web.env\n")
	_, err := bunfile.Load(path)
	errs, ok := errors.AsType[bunfile.Errors](err)
	if !ok || !errors.Is(err, fs.ErrNotExist) || errs[0].Line != 3 || errs[0].Column != 11 || errs[0].File != path {
		t.Errorf("no env_file: %v", err)
	}
	env := write(t, dir, "web.env", "A=1\nsecret\nB='x\nA=topsecret\n")
	_, err = bunfile.Load(path)
	errs, ok = errors.AsType[bunfile.Errors](err)
	if !ok || len(errs) != 3 || errs[0].File != env || errs[0].Line != 2 || errs[1].Line != 3 || errs[2].Line != 4 {
		t.Fatalf("wrong lines: %v", err)
	}
	if text := err.Error(); strings.Contains(text, "secret") {
		t.Errorf("the errors show a secret:\n%s", text)
	}
}

// Problems of the .bun file, env_files that cannot be read and wrong lines in
// others are reported together, those of the .bun file first and in order.
func TestLoadReportsEnvFilesBesideOtherProblems(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "shop.bun", `version: "1.0"
name: web
image: {command: [web]}
env_file: missing.env
prots: []
---
version: "1.0"
name: db
image: {command: [db]}
env_file: db.env
---
version: "1.0"
name: cache
image: {command: [cache], pull: often}
env_file: db.env
---
version: "1.0"
name: home
image: {command: [home]}
env_file: ~/home.env
---
version: "1.0"
name: number
image: {command: [number]}
env_file: [a.env]
`)
	env := write(t, dir, "db.env", "A=1\nB\n")
	_, err := bunfile.Load(path)
	errs, ok := errors.AsType[bunfile.Errors](err)
	if !ok || !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	type place struct {
		file string
		line int
	}
	var got []place
	for _, e := range errs {
		got = append(got, place{e.File, e.Line})
	}
	// The wrong line of db.env is shown once, although two containers read it.
	want := []place{{path, 4}, {path, 5}, {path, 14}, {path, 14}, {path, 20}, {path, 25}, {env, 2}}
	if !slices.Equal(got, want) {
		t.Errorf("problems at %v, want %v:\n%v", got, want, err)
	}
}

func TestLoadStopsAtASyntaxError(t *testing.T) {
	path := write(t, t.TempDir(), "web.bun", "version: \"1.0\"\nenv_file: missing.env\nimage: {\n")
	_, err := bunfile.Load(path)
	if errs, ok := errors.AsType[bunfile.Errors](err); !ok || len(errs) != 1 || errs[0].Line != 3 {
		t.Error(err)
	}
}

func TestLoadSharesAnEnvFile(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "web.bun", "version: \"1.0\"\nname: a\nimage: {command: [a]}\nenv_file: x.env\n---\nversion: \"1.0\"\nname: b\nimage: {command: [b]}\nenv_file: ./x.env\nenvironment: [A=own]\n")
	write(t, dir, "x.env", "A=1\nB=2\n")
	specs, err := bunfile.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := specs[0].Environment, specs[1].Environment; !slices.Equal(a, []string{"A=1", "B=2"}) || !slices.Equal(b, []string{"B=2", "A=own"}) {
		t.Errorf("%q, %q", a, b)
	}
}

func TestLoadDirectoryAsEnvFile(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "web.bun", "version: \"1.0\"\nimage: {docker_image: nginx}\nenv_file: .\n")
	if _, err := bunfile.Load(path); err == nil || !strings.Contains(err.Error(), "web.bun:3:11: env_file: ") {
		t.Error(err)
	}
}
