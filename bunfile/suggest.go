package bunfile

import (
	"slices"
	"strings"
)

// nearest returns the candidate that text was probably meant to be, or "" if
// there is none, or more than one.
func nearest(text string, candidates []string) string {
	const longest = 40 // the distance takes quadratic time; nobody misspells more
	if len(text) > longest {
		return ""
	}
	best, distance := "", 3
	for _, c := range candidates {
		if fold(c) == fold(text) {
			return c
		}
		// A third of the letters may be wrong: "up" is not a near "no".
		if d := editDistance(strings.ToLower(text), c); d < distance && 3*d <= max(len(c), 3) {
			best, distance = c, d
		} else if d == distance {
			best = ""
		}
	}
	return best
}

// fold makes dockerImage, docker-image and docker_image the same.
func fold(s string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(s))
}

// editDistance counts the insertions, deletions, replacements and swaps of
// neighbours between a and b (optimal string alignment).
func editDistance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// orList returns "a, b or c".
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// keyHint says what an unknown key of the mapping at path was meant to be:
// a misspelt key of the same mapping, a key of another one, or one that other
// tools have.
func keyHint(path, key string, allowed []string) string {
	if near := nearest(key, allowed); near != "" {
		return "did you mean " + near + "?"
	}
	if path == "" {
		if ours, ok := composeKeys()[key]; ok {
			return ours
		}
	}
	for _, section := range sections() {
		if section.path != path && slices.Contains(section.keys, key) {
			where := "at the top level"
			if section.path != "" {
				where = "under " + section.path
			}
			return key + " belongs " + where
		}
	}
	if len(allowed) == 0 {
		return ""
	}
	return "known keys: " + strings.Join(allowed, ", ")
}

// composeKeys says how top-level keys of Compose files are written here.
func composeKeys() map[string]string {
	return map[string]string{
		"build":             "use image.command for a program that is built already; an image that another tool built goes into image.docker_image, for a container runtime",
		"container_name":    "use name",
		"cmd":               "use image.command",
		"deploy":            "use replicas and resources",
		"entrypoint":        "use image.command",
		"env":               "use environment",
		"mem_limit":         "use resources.memory_limit",
		"restart":           "use restart_policy: {name: always}",
		"services":          "write one document per container, with --- between them",
		"working_dir":       "use image.workdir",
		"stop_grace_period": "use stop_timeout",
	}
}
