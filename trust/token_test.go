package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// tokenFrom is a token with a known secret.
func tokenFrom(secret [secretLen]byte) Token { return Token{hide(&secret)} }

// tokens draws tokens.
func tokens() *rapid.Generator[Token] {
	return rapid.Custom(func(t *rapid.T) Token {
		return tokenFrom([secretLen]byte(rapid.SliceOfN(rapid.Byte(), secretLen, secretLen).Draw(t, "secret")))
	})
}

func TestTokenRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tok := tokens().Draw(t, "token")
		text := tok.Reveal()
		if len(text) != tokenLen || text != strings.ToLower(text) {
			t.Fatalf("%q has %d characters, want %d in lower case", text, len(text), tokenLen)
		}
		got, err := ParseToken(text)
		if err != nil || !got.Equal(tok) || got.Reveal() != text || got.FlockID() != tok.FlockID() {
			t.Fatalf("parsed %v, %v", got.Reveal(), err)
		}
	})
}

func TestTokenIsReadHoweverItWasCopied(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tok := tokens().Draw(t, "token")
		var b strings.Builder
		for _, c := range tok.Reveal() {
			b.WriteString(rapid.SampledFrom([]string{"", "", "", " ", "\n", "\r\n\t", "\u00a0"}).Draw(t, "gap"))
			if rapid.Bool().Draw(t, "upper") {
				b.WriteString(strings.ToUpper(string(c)))
			} else {
				b.WriteRune(c)
			}
		}
		if got, err := ParseToken(b.String() + "\n"); err != nil || !got.Equal(tok) {
			t.Fatalf("%q: %v", b.String(), err)
		}
	})
}

// Up to four wrong characters, two that are swapped, one too many or too few
// are always noticed, and what is said never repeats the text.
func TestTyposAreNoticed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		right := tokens().Draw(t, "token").Reveal()
		wrong := []byte(right)
		from := len(tokenWord) + 1
		switch rapid.SampledFrom([]string{"replace", "swap", "drop", "add"}).Draw(t, "typo") {
		case "replace":
			for range rapid.IntRange(1, 4).Draw(t, "count") {
				wrong[rapid.IntRange(from, len(wrong)-1).Draw(t, "at")] = rapid.SampledFrom([]byte(alphabet)).Draw(t, "character")
			}
		case "swap":
			i := rapid.IntRange(from, len(wrong)-2).Draw(t, "at")
			wrong[i], wrong[i+1] = wrong[i+1], wrong[i]
		case "drop":
			i := rapid.IntRange(0, len(wrong)-1).Draw(t, "at")
			wrong = append(wrong[:i], wrong[i+1:]...)
		case "add":
			i := rapid.IntRange(0, len(wrong)).Draw(t, "at")
			c := rapid.Byte().Filter(func(b byte) bool { return b > ' ' && b < 0x7f }).Draw(t, "character")
			wrong = append(wrong[:i], append([]byte{c}, wrong[i:]...)...)
		}
		if string(wrong) == right {
			t.Skip("no typo")
		}
		_, err := ParseToken(string(wrong))
		if !errors.Is(err, ErrToken) {
			t.Fatalf("%s for %s: %v", wrong, right, err)
		}
		noSecret(t, err.Error(), right)
	})
}

// noSecret fails if a message holds as little as seven characters of a secret
// text after the word with which all of them begin.
func noSecret(t interface{ Errorf(string, ...any) }, message, secret string) {
	message = strings.ToLower(message)
	if i := strings.Index(secret, "1"); i >= 0 {
		secret = secret[i+1:]
	}
	message = strings.ReplaceAll(message, tokenWord+"1", "")
	for i := 0; i+7 <= len(secret); i++ {
		if strings.Contains(message, strings.ToLower(secret[i:i+7])) {
			t.Errorf("the message tells %q: %s", secret[i:i+7], message)
			return
		}
	}
}

func TestWhatIsNoToken(t *testing.T) {
	good := tokenFrom([secretLen]byte{1, 2, 3}).Reveal()
	values := func(version byte, secret ...byte) []byte {
		v, _ := regroup(secret, 8, 5, true)
		return append([]byte{version}, v...)
	}
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "it is empty"},
		{"space", " \n\t ", "it is empty"},
		{"password", "correcthorsebatterystaple", "does not begin with budgie-flock1"},
		{"word alone", "budgie-flock1", "the rest is missing"},
		{"half", good[:40], "it has 40 characters of 72"},
		{"twice", good + good, "cannot be in it"}, // the hyphen
		{"longer", good + "qqqq", "it has 76 characters, and a token has 72"},
		{"typed letter", good[:20] + "b" + good[21:], "character 21 cannot be in it"},
		{"not ASCII", good[:20] + "é" + good[21:], "character 21 cannot be in it"},
		{"mistyped", good[:20] + string(alphabet[(strings.IndexByte(alphabet, good[20])+1)%32]) + good[21:], "mistyped"},
		{"newer", encode32(tokenWord, values(2, make([]byte, 40)...)), "version 2"},
		{"short secret", encode32(tokenWord, values(tokenVersion, make([]byte, 31)...)), "holds no 256 bits"},
		{"long secret", encode32(tokenWord, values(tokenVersion, make([]byte, 33)...)), "holds no 256 bits"},
		{"padding", encode32(tokenWord, append(values(tokenVersion, make([]byte, 32)...)[:52], 1)), "holds no 256 bits"},
		{"endless", strings.Repeat("x", 5000), "longer than 4096"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok, err := ParseToken(c.text)
			if !errors.Is(err, ErrToken) || !tok.IsZero() || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if len(c.text) > 30 {
				noSecret(t, fmt.Sprint(err), c.text[min(20, len(c.text)-10):])
			}
		})
	}
}

// Whatever is parsed is what would be written, so a token has one text.
func FuzzParseToken(f *testing.F) {
	good := tokenFrom([secretLen]byte{1, 2, 3}).Reveal()
	for _, s := range []string{"", good, strings.ToUpper(good), good[:71], good + "q", "budgie-flock1", " " + good + "\n", "budgie-flock1\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := ParseToken(text)
		if err != nil {
			if !errors.Is(err, ErrToken) || !tok.IsZero() {
				t.Errorf("got %v", err)
			}
			return
		}
		if again, err := ParseToken(tok.Reveal()); err != nil || !again.Equal(tok) {
			t.Errorf("what was parsed is written as something else: %v", err)
		}
	})
}

// The checksum is that of BIP 350, by its test vectors.
func TestChecksumVectors(t *testing.T) {
	for _, v := range []struct {
		text string
		ok   bool
	}{
		{"a1lqfn3a", true},
		{"abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx", true},
		{"split1checkupstagehandshakeupstreamerranterredcaperredlc445v", true},
		{"?1v759aa", true},
		{"m1vuxwez", false}, // an invalid one of the list
		{"a12uel5l", false}, // the older checksum, of BIP 173
	} {
		word, coded, _ := strings.Cut(v.text, "1")
		var values []byte
		for _, c := range []byte(coded) {
			values = append(values, byte(strings.IndexByte(alphabet, c)))
		}
		if fits32(word, values) != v.ok {
			t.Errorf("%s: fits is %v", v.text, !v.ok)
		}
		if v.ok && encode32(word, values[:len(values)-checksumLen]) != v.text {
			t.Errorf("%s is written as %s", v.text, encode32(word, values[:len(values)-checksumLen]))
		}
	}
}

// What is derived from a token must never change, or machines with different
// versions of Budgie were strangers to each other.
func TestDerivationIsAsDocumented(t *testing.T) {
	var secret [secretLen]byte
	for i := range secret {
		secret[i] = byte(i)
	}
	tok := tokenFrom(secret)
	if got, want := tok.Reveal(), "budgie-flock1pqqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0sxd7xql"; got != want {
		t.Errorf("its text is %s, want %s", got, want)
	}
	mac := func(key []byte, parts ...string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(strings.Join(parts, "")))
		return h.Sum(nil)
	}
	// RFC 5869, sections 2.2 and 2.3: no salt counts as 32 zeros.
	seed := mac(mac(make([]byte, 32), string(secret[:])), "budgie flock 1: Ed25519 seed of the certificate authority", "\x01")
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	sum := sha256.Sum256(append([]byte("budgie flock 1: id\n"), public...))
	id := hex.EncodeToString(sum[:16])
	a, err := newAuthority(tok)
	if err != nil {
		t.Fatal(err)
	}
	if tok.FlockID() != id || a.id != id || !public.Equal(a.cert.PublicKey) {
		t.Errorf("its flock is %s and %s, want %s", tok.FlockID(), a.id, id)
	}
	if want := "9619ed824d4c72f68089f24c5a16ea76"; id != want {
		t.Errorf("its flock is %s, was %s", id, want)
	}
	b, err := newAuthority(tok)
	if err != nil || !bytes.Equal(a.cert.Raw, b.cert.Raw) {
		t.Errorf("two machines make different authorities of one token: %v", err)
	}
}

func TestTokensDiffer(t *testing.T) {
	a, b := NewToken(), NewToken()
	if a.Equal(b) || a.FlockID() == b.FlockID() || a.IsZero() {
		t.Error("two new tokens are the same")
	}
	var zero Token
	if !zero.IsZero() || zero.Equal(a) || a.Equal(zero) || !zero.Equal(Token{}) || zero.Reveal() != "" || zero.FlockID() != "" {
		t.Error("the zero token is one")
	}
}

// A token that gets into a log or a message by mistake does not show.
func TestTokensAndKeysAreNotPrinted(t *testing.T) {
	tok := NewToken()
	self, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	f := newFlock(self, &tokenMemory{tok}, nil)
	defer f.Close()
	g, err := f.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []role{client, server} {
		if _, err := f.certificate(r); err != nil {
			t.Fatal(err)
		}
	}
	type holder struct {
		Token   Token
		hidden  Token
		pointer *Token
		self    *identity
		Self    *identity
	}
	values := []any{tok, &tok, []Token{tok}, holder{tok, tok, &tok, self, self}, &holder{tok, tok, &tok, self, self}, self, *self, f, g, *g.authority, map[string]Token{"": tok}}
	var out strings.Builder
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%t"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		if text, err := json.Marshal(v); err == nil {
			out.Write(text)
		}
	}
	secrets := map[string][]byte{"token": tok.secret()[:], "node key": self.key().Seed(), "authority": tok.authorityKey().Seed()}
	for what, secret := range secrets {
		for _, form := range []string{
			hex.EncodeToString(secret[:4]), strings.ToUpper(hex.EncodeToString(secret[:4])), string(secret[:4]),
			strings.Trim(fmt.Sprint(secret[:4]), "[]"), strings.Trim(fmt.Sprintf("%#v", secret[:4]), "[]byte{}"),
		} {
			if strings.Contains(out.String(), form) {
				t.Errorf("the %s is printed, as %q", what, form)
			}
		}
	}
	if strings.Contains(out.String(), tok.Reveal()[14:20]) || strings.Contains(out.String(), tok.Reveal()[60:66]) {
		t.Error("the token's text is printed")
	}
	if !strings.Contains(out.String(), redacted) {
		t.Error("no placeholder is printed")
	}
}
