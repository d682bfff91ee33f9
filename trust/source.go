package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// tokenName is the file of the token in the data directory.
const tokenName = "token"

// A source is where a Flock's token is kept. Its methods are called one at a
// time.
type source interface {
	// read returns the token as it is now, and makes one if there never was.
	read() (Token, error)
	// write replaces the token.
	write(Token) error
	// path is the file to watch, "" where nobody else can change the token.
	path() string
}

// tokenFile is a token in a file that processes share.
type tokenFile struct {
	file string
	// known is set once there was a token. That it is gone then is a mistake,
	// or somebody is about to put another one there: not a reason for a new
	// flock.
	known bool
}

func newTokenFile(dir string) *tokenFile { return &tokenFile{file: filepath.Join(dir, tokenName)} }

func (s *tokenFile) path() string { return s.file }

func (s *tokenFile) read() (Token, error) {
	for {
		text, err := readSecret(s.file)
		switch {
		case errors.Is(err, fs.ErrNotExist) && s.known:
			return Token{}, fmt.Errorf("%s %w: it is gone; put it back, or take another token with \"budgie token set\" or \"budgie token rotate\"", s.file, ErrUnusable)
		case errors.Is(err, fs.ErrNotExist):
			// Of several processes that do so one wins.
			if err := createSecret(s.file, tokenLine(NewToken())); err != nil {
				return Token{}, fmt.Errorf("make a token: %w", err)
			}
			continue
		case err != nil:
			return Token{}, err
		}
		t, err := ParseToken(string(text))
		if err != nil {
			return Token{}, fmt.Errorf("%s %w: %w; restore it from a copy, or replace it with \"budgie token set\" or \"budgie token rotate\"", s.file, ErrUnusable, err)
		}
		s.known = true
		return t, nil
	}
}

func (s *tokenFile) write(t Token) error {
	if err := replaceSecret(s.file, tokenLine(t)); err != nil {
		return fmt.Errorf("keep the token: %w", err)
	}
	s.known = true
	return nil
}

func tokenLine(t Token) []byte { return []byte(t.Reveal() + "\n") }

// tokenMemory is a token that nobody else knows of.
type tokenMemory struct{ token Token }

func (s *tokenMemory) path() string         { return "" }
func (s *tokenMemory) read() (Token, error) { return s.token, nil }

func (s *tokenMemory) write(t Token) error {
	s.token = t
	return nil
}

// tokenFixed is a token that the program was given.
type tokenFixed struct {
	token Token
	// origin says by what.
	origin string
}

func (s *tokenFixed) path() string { return "" }

func (s *tokenFixed) read() (Token, error) {
	if s.token.IsZero() {
		return Token{}, fmt.Errorf("the token of %s %w: it is the zero value", s.origin, ErrUnusable)
	}
	return s.token, nil
}

func (s *tokenFixed) write(Token) error {
	return fmt.Errorf("%w: %s says which it is, in place of the file in the data directory; change or remove it there", ErrFixed, s.origin)
}
