package peer

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// Whatever comes as the request for a volume: what is taken keeps the rules, is
// the same after another trip, and nothing behind it is read.
func FuzzVolumeRequest(f *testing.F) {
	for _, target := range []string{"/data", "/", "/a b/\n", "/" + strings.Repeat("x", 4095)} {
		data, err := volumeStream.request(someID, target)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(append(data, "more"...))
		f.Add(data[:len(data)-1])
	}
	f.Add([]byte{2, 0, 0})
	f.Add([]byte{1, 0xff, 0xff})
	f.Add([]byte("\x01\x00\x50" + someID + "/data/../../etc/"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		id, target, err := volumeStream.readRequest(r)
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v", err)
			}
			return
		}
		if !isID(id) || target[0] != '/' || len(target) > 4096 || strings.Contains(target+"/", "/../") || strings.ContainsRune(target, 0) {
			t.Errorf("took %q, %q", id, target)
		}
		again, err := volumeStream.request(id, target)
		if err != nil || !bytes.Equal(again, data[:len(data)-r.Len()]) {
			t.Errorf("%q, %q came back as %q, %v", id, target, again, err)
		}
	})
}

// Whatever comes as the request for a port: what is taken is one, and is written
// as it would be.
func FuzzPortRequest(f *testing.F) {
	for _, port := range []string{"1", "80", "65535"} {
		data, err := portStream.request(someID, port)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, port := range []string{"0", "080", "65536", "-1", "80 ", "http", ""} {
		f.Add([]byte("\x01\x00" + string(rune(len(someID)+len(port))) + someID + port))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		id, port, err := portStream.readRequest(r)
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v", err)
			}
			return
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port {
			t.Errorf("took %q", port)
		}
		again, err := portStream.request(id, port)
		if err != nil || !bytes.Equal(again, data[:len(data)-r.Len()]) {
			t.Errorf("%q, %q came back as %q, %v", id, port, again, err)
		}
	})
}

// Whatever comes as the answer: it is a grant, or an error that is fit to be
// shown.
func FuzzStreamAnswer(f *testing.F) {
	f.Add(encodeStreamAnswer(streamGranted, ""))
	f.Add(encodeStreamAnswer(streamNotFound, "no such thing"))
	f.Add(encodeStreamAnswer(streamRefused, strings.Repeat("世", 1000)+"\x1b[31m"))
	f.Add([]byte{1, 0, 0, 1, 'x'})
	f.Add([]byte{1, 9, 0, 0})
	f.Add([]byte{7, 0, 0, 0})
	f.Add([]byte{1, 2, 0xff, 0xff})
	f.Add([]byte("\x01\x03\x00\x04\x1b[2J"))
	f.Fuzz(func(t *testing.T, data []byte) {
		err := readStreamAnswer(bytes.NewReader(data))
		if err == nil {
			if !bytes.HasPrefix(data, encodeStreamAnswer(streamGranted, "")) {
				t.Errorf("%q was taken for a grant", data)
			}
			return
		}
		if len(err.Error()) > maxStreamText || strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%q gives %q", data, err)
		}
	})
}

// What a node says of an error comes out as the same kind, with the text that is
// for others, and no other text.
func TestStreamAnswers(t *testing.T) {
	for _, c := range []struct {
		err, want error
		text      string
		strange   bool
	}{
		{errors.Join(ErrNotFound, errors.New("/secret")), ErrNotFound, "no such container", false},
		{errNoVolumes, ErrRefused, "this node hands out no volumes", false},
		{errors.New("open /secret: permission denied"), ErrRefused, "its log says why", true},
	} {
		status, text, strange := volumeStream.answer(c.err)
		err := readStreamAnswer(bytes.NewReader(encodeStreamAnswer(status, text)))
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "secret") || strange != c.strange {
			t.Errorf("%v came as %v, strange: %t", c.err, err, strange)
		}
	}
}
