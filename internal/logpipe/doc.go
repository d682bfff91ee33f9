// Package logpipe carries what a container writes from named pipes to its log,
// in such a way that neither the death of the supervisor nor its return loses
// anything: the pipes outlive it, and nothing is taken out of them before it is
// written down.
package logpipe
