package bunfile

import (
	"fmt"
	"regexp"
	"strings"
)

// shortPort and shortVolume are the short forms of other tools.
var (
	shortPort   = regexp.MustCompile(`^(?:([0-9]{1,5}):)?([0-9]{1,5})(?:/(tcp|udp))?$`)
	shortVolume = regexp.MustCompile(`^([^:]+):(/[^:]*)(?::(ro|rw))?$`)
)

// shapeHint says how a value of the wrong shape, as other tools take it, is
// written here.
func shapeHint(path string, n *node) string {
	if n.kind != scalarKind || len(n.text) > 100 || strings.ContainsAny(n.text, "\n\"\\") {
		return ""
	}
	switch section := sectionOf(path); section {
	case "image":
		return imageHint(n.text)
	case "restart_policy":
		return fmt.Sprintf("write restart_policy: {name: %s}", n.text)
	case "balance":
		return fmt.Sprintf("write balance: {algorithm: %s}", n.text)
	case "balance.hash":
		return fmt.Sprintf("write hash: {header: %s}, or hash: {cookie: %s}", n.text, n.text)
	case "replicas":
		return fmt.Sprintf("write replicas: {min: %s}", n.text)
	case "ports":
		return portHint(n.text)
	case "volumes":
		return volumeHint(n.text)
	case "image.command", "healthcheck.command":
		return commandHint(n.text)
	case "depends_on":
		return fmt.Sprintf("write depends_on: [%s]", n.text)
	}
	return ""
}

// imageHint proposes a command for what is plainly one.
func imageHint(text string) string {
	if list, remark := commandList(text); strings.ContainsAny(text, " \t") || strings.ContainsAny(text[:min(len(text), 1)], "./") {
		return "write image: {command: " + list + "}" + remark
	}
	return fmt.Sprintf("write image: {command: [PROGRAM, ARGUMENT]}, or image: {docker_image: %q} for a container runtime", text)
}

func portHint(text string) string {
	parts := shortPort.FindStringSubmatch(text)
	if parts == nil {
		return "write {container_port: 80, host_port: 8080}"
	}
	out := "write {container_port: " + parts[2]
	if parts[1] != "" {
		out += ", host_port: " + parts[1]
	}
	if parts[3] != "" {
		out += ", protocol: " + parts[3]
	}
	return out + "}"
}

func volumeHint(text string) string {
	parts := shortVolume.FindStringSubmatch(text)
	if parts == nil {
		return "write {source: ./data, target: /data}"
	}
	out := "write {source: " + parts[1] + ", target: " + parts[2]
	if parts[3] != "" {
		out += ", mode: " + parts[3]
	}
	return out + "}"
}

func commandHint(text string) string {
	list, remark := commandList(text)
	return "write " + list + remark
}

// commandList writes a command that is a single text as a list.
func commandList(text string) (list, remark string) {
	if strings.ContainsAny(text, `'$|&;<>*`) {
		return `["sh", "-c", "…"]`, " for a line that a shell reads"
	}
	words := strings.Fields(text)
	for i, word := range words {
		words[i] = fmt.Sprintf("%q", word)
	}
	return "[" + strings.Join(words, ", ") + "]", ""
}
