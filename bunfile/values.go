package bunfile

import (
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A number is written as people write numbers: other YAML notations (010, 0x1f,
// 1_000, 8e1) mean different things to different readers.
var numberText = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

// parseNumber reads a whole number. The error completes "want …".
func parseNumber(text string) (int64, error) {
	if !numberText.MatchString(text) {
		return 0, fmt.Errorf("want a whole number, got %s", quote(text))
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s does not fit into 64 bits", quote(text))
	}
	return n, nil
}

// numberHint says what a text that is no number was probably meant to be.
func numberHint(text string) string {
	if trimmed := strings.TrimLeft(strings.TrimPrefix(text, "+"), "0"); text != trimmed && numberText.MatchString(trimmed) {
		return "write " + trimmed + " for the decimal number"
	}
	if n, err := strconv.ParseInt(text, 0, 64); err == nil {
		return "write it as a decimal number: " + strconv.FormatInt(n, 10)
	}
	return ""
}

// parseDuration reads a duration with units, such as 1m30s, or a whole number of seconds.
func parseDuration(text string) (Duration, error) {
	if numberText.MatchString(text) {
		n, err := parseNumber(text)
		if err != nil || n > math.MaxInt64/int64(time.Second) || n < math.MinInt64/int64(time.Second) {
			return 0, fmt.Errorf("%s seconds is too long a time", quote(text))
		}
		return Duration(n) * Duration(time.Second), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d == 0 && text[0] == '-' {
		return 0, fmt.Errorf("want a time such as 500ms, 10s or 1m30s, or a whole number of seconds, got %s", quote(text))
	}
	return Duration(d), nil
}

var sizeText = regexp.MustCompile(`^([0-9]{1,19})(?:\.([0-9]{1,19}))? ?([A-Za-z]*)$`)

// sizeUnit returns what a unit of sizes counts for. A letter alone is a power
// of 1024, as in docker run --memory; with B it is what the SI says.
func sizeUnit(unit string) (bytes int64, ok bool) {
	lower := strings.ToLower(unit)
	if lower == "" || lower == "b" {
		return 1, true
	}
	power := strings.IndexByte("kmgt", lower[0]) + 1
	if power == 0 {
		return 0, false
	}
	base := int64(1024)
	switch lower[1:] {
	case "", "ib":
	case "b":
		base = 1000
	default:
		return 0, false
	}
	bytes = 1
	for range power {
		bytes *= base
	}
	return bytes, true
}

// ParseSize reads a number of bytes, with an optional unit as in 512MiB, 1.5GiB or
// 64k. A fraction of a byte is dropped.
func ParseSize(text string) (Size, error) {
	want := fmt.Errorf("want a number of bytes, or a size such as 512MiB, 1.5GiB or 64k, got %s", quote(text))
	if strings.HasPrefix(text, "-") && numberText.MatchString(text) {
		n, err := parseNumber(text)
		return Size(n), err
	}
	parts := sizeText.FindStringSubmatch(text)
	if parts == nil || parts[2] == "" && parts[1] != "0" && parts[1][0] == '0' {
		return 0, want
	}
	unit, ok := sizeUnit(parts[3])
	if !ok || parts[2] != "" && unit == 1 {
		return 0, want
	}
	value, ok := new(big.Rat).SetString(parts[1] + "." + parts[2] + "0")
	if !ok {
		return 0, want
	}
	value.Mul(value, new(big.Rat).SetInt64(unit))
	whole := new(big.Int).Quo(value.Num(), value.Denom())
	if !whole.IsInt64() {
		return 0, fmt.Errorf("%s is more than 64 bits can count", quote(text))
	}
	return Size(whole.Int64()), nil
}

// numberRange is what a number may be, both ends included.
type numberRange struct{ low, high int64 }

func (r numberRange) holds(n int64) bool { return n >= r.low && n <= r.high }

// orZero is r for keys where 0 says the same as leaving them out.
func (r numberRange) orZero() numberRange { return numberRange{0, r.high} }

func (r numberRange) String() string {
	switch {
	case r.high >= noLimit:
		return fmt.Sprintf("%d or more", r.low)
	}
	return fmt.Sprintf("%d to %d", r.low, r.high)
}

// noLimit is the upper end of numbers that may be as large as an int32, which
// is what runtimes take.
const noLimit = math.MaxInt32

// What the numbers may be, where they are given.
var (
	containerPorts = numberRange{1, 65535}
	hostPorts      = numberRange{0, 65535}
	weights        = numberRange{1, MaxWeight}
	retryCounts    = numberRange{1, noLimit}
	restartCounts  = numberRange{0, noLimit}
	minReplicas    = numberRange{1, noLimit}
	maxReplicas    = numberRange{0, noLimit}
	cpuShares      = numberRange{2, 262144}
	cpuQuotas      = numberRange{1000, math.MaxInt64}
	blkioWeights   = numberRange{10, 1000}
	pidsLimits     = numberRange{1, math.MaxInt64}
)

// minMemory is below what any program needs: a smaller limit is a number
// without its unit.
const minMemory = Size(1 << 20)

// minProbe keeps a health check from being a busy loop.
const minProbe = Duration(time.Millisecond)
