package trust

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode"
)

// ErrToken: a text is not a token. The wrapping error says what is wrong with
// it, without repeating it.
var ErrToken = errors.New("not a token")

const (
	secretLen = 32
	// tokenWord is how every token's text begins, before the digit 1.
	tokenWord = "budgie-flock"
	// tokenVersion is the first value after it. It says how the rest is to be
	// read and what is derived from the secret.
	tokenVersion = 1
	// tokenLen is the length of a token's text: the word, the 1, the version,
	// 52 characters for 256 bits, and the checksum.
	tokenLen = len(tokenWord) + 1 + 1 + 52 + checksumLen
	// mostTokenText bounds what is looked at of a text that may be one.
	mostTokenText = 4096
)

// Token is the secret that makes a node a member of a flock: 256 random bits.
// Whoever has it can do all that a member can. The zero value is no token.
//
// Printing or logging a Token by any means shows a placeholder; [Token.Reveal]
// returns the secret's text.
type Token struct {
	secret hidden[*[secretLen]byte]
}

// NewToken returns a token of a flock that nobody else is in yet.
func NewToken() Token {
	secret := new([secretLen]byte)
	_, _ = rand.Read(secret[:]) // never fails, see crypto/rand
	return Token{hide(secret)}
}

// ParseToken reads the text of a token as [Token.Reveal] writes it. Upper case
// and white space, also within, as where a terminal wrapped the line, do no
// harm; up to four mistyped characters are always noticed. The error is
// ErrToken, and never repeats the text.
func ParseToken(text string) (Token, error) {
	if len(text) > mostTokenText {
		return Token{}, notToken("it is longer than %d bytes, and a token has %d characters", mostTokenText, tokenLen)
	}
	text = strings.ToLower(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text))
	if text == "" {
		return Token{}, notToken("it is empty; \"budgie token\" on a machine of the flock prints what belongs here")
	}
	coded, ok := strings.CutPrefix(text, tokenWord+"1")
	if !ok {
		return Token{}, notToken("it does not begin with %s1, as what \"budgie token\" prints does", tokenWord)
	}
	values := make([]byte, 0, len(coded))
	for i, c := range []byte(coded) {
		v := strings.IndexByte(alphabet, c)
		if v < 0 {
			return Token{}, notToken("character %d cannot be in it: after %s1 there are only digits without 1 and letters without b, i and o",
				len(text)-len(coded)+i+1, tokenWord)
		}
		values = append(values, byte(v))
	}
	return tokenOf(values, len(text))
}

// tokenOf makes a token of the values of a text of the given length.
func tokenOf(values []byte, length int) (Token, error) {
	if len(values) <= checksumLen || !fits32(tokenWord, values) {
		switch missing := tokenLen - length; {
		case missing > 0:
			return Token{}, notToken("it has %d characters of %d: the rest is missing", length, tokenLen)
		case missing < 0:
			return Token{}, notToken("it has %d characters, and a token has %d: there is too much", length, tokenLen)
		}
		return Token{}, notToken("its checksum does not fit: a character is mistyped, or two are swapped")
	}
	if v := values[0]; v != tokenVersion {
		return Token{}, notToken("it is of version %d, and this Budgie knows only %d: use the newer one that made it", v, tokenVersion)
	}
	secret, ok := regroup(values[1:len(values)-checksumLen], 5, 8, false)
	if !ok || len(secret) != secretLen {
		return Token{}, notToken("its checksum fits, but it holds no %d bits", 8*secretLen)
	}
	return Token{hide((*[secretLen]byte)(secret))}, nil
}

func notToken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrToken, fmt.Sprintf(format, args...))
}

// Reveal returns the token as text, for somebody to take it to another machine:
// one word of 72 characters, which [ParseToken] reads. It is empty for the zero
// Token.
func (t Token) Reveal() string {
	if t.IsZero() {
		return ""
	}
	values, _ := regroup(t.secret()[:], 8, 5, true)
	return encode32(tokenWord, append([]byte{tokenVersion}, values...))
}

// IsZero reports whether t is the zero value, which is no token.
func (t Token) IsZero() bool { return t.secret == nil }

// Equal reports whether both are the same token, in constant time.
func (t Token) Equal(u Token) bool {
	if t.IsZero() || u.IsZero() {
		return t.IsZero() && u.IsZero()
	}
	return subtle.ConstantTimeCompare(t.secret()[:], u.secret()[:]) == 1
}

// FlockID returns the id of the token's flock, 32 hexadecimal characters. It
// tells flocks apart and says nothing about the token, so it may be seen by
// anybody. It is empty for the zero Token.
func (t Token) FlockID() string {
	if t.IsZero() {
		return ""
	}
	return flockID(t.authorityKey())
}

// derive returns n secret bytes for a purpose, which label names.
func (t Token) derive(label string, n int) []byte {
	key, err := hkdf.Key(sha256.New, t.secret()[:], nil, label, n)
	if err != nil {
		panic(err) // n is a small constant, and the secret long enough for FIPS 140
	}
	return key
}

// redacted is shown where a token is printed.
const redacted = "[token]"

// String returns a placeholder.
func (t Token) String() string { return redacted }

// Format prints a placeholder, whatever the verb.
func (t Token) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// LogValue is a placeholder.
func (t Token) LogValue() slog.Value { return slog.StringValue(redacted) }
