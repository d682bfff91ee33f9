package trust

import "strings"

// The text form of tokens is Bech32m (BIP 350, on the format of BIP 173): a
// word that says what it is, the digit 1, data in an alphabet of 32 characters
// without those that are taken for each other, and a checksum of six. It finds
// every error of up to four characters in texts of up to 90.

// alphabet holds the character of each value of five bits.
const alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

const (
	checksumLen = 6
	// bech32mConst is what the polynomial of a text with its checksum gives.
	bech32mConst = 0x2bc830a3
)

// polymod is the remainder of the checksum's polynomial.
func polymod(values []byte) uint32 {
	generator := [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3}
	chk := uint32(1)
	for _, v := range values {
		top := chk >> 25
		chk = (chk&0x1ffffff)<<5 ^ uint32(v)
		for i, g := range generator {
			if top>>i&1 == 1 {
				chk ^= g
			}
		}
	}
	return chk
}

// expand is what the checksum covers of the word before the 1.
func expand(word string) []byte {
	values := make([]byte, 0, 2*len(word)+1)
	for _, c := range []byte(word) {
		values = append(values, c>>5)
	}
	values = append(values, 0)
	for _, c := range []byte(word) {
		values = append(values, c&31)
	}
	return values
}

// encode32 returns the text for a word and values of five bits.
func encode32(word string, values []byte) string {
	sum := polymod(append(append(expand(word), values...), make([]byte, checksumLen)...)) ^ bech32mConst
	var b strings.Builder
	b.WriteString(word + "1")
	for _, v := range values {
		b.WriteByte(alphabet[v])
	}
	for i := range checksumLen {
		b.WriteByte(alphabet[sum>>(5*(checksumLen-1-i))&31])
	}
	return b.String()
}

// fits32 reports whether values, the last six of which are the checksum, fit
// the word.
func fits32(word string, values []byte) bool {
	return polymod(append(expand(word), values...)) == bech32mConst
}

// regroup turns values of from bits into values of to bits, the last one filled
// up with zeros where pad is true. Without pad, bits that are left over must be
// zeros and too few for a value of their own; ok says so.
func regroup(values []byte, from, to int, pad bool) (out []byte, ok bool) {
	acc, bits := 0, 0
	for _, v := range values {
		acc = acc<<from | int(v)
		for bits += from; bits >= to; {
			bits -= to
			out = append(out, byte(acc>>bits))
			acc &= 1<<bits - 1
		}
	}
	if pad && bits > 0 {
		return append(out, byte(acc<<(to-bits))), true
	}
	return out, bits < from && acc == 0
}
