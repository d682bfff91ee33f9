// Package budgie runs containers from .bun files, announces them on the local
// network, and balances traffic over the replicas.
package budgie
