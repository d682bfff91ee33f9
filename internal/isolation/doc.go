// Package isolation runs a whole test process in namespaces of its own, so that
// whatever a test leaves behind, or dies of, is gone with the process: mounts,
// network interfaces, daemons and containers.
package isolation
