// Package housetest holds tests about the house itself: what the packages may
// depend on, which way the arrows between them point, and what every source
// file owes its reader. It has no code of its own.
package housetest
