// Package benchreport is what the benchmarks of bench/ have in common: how they
// sum up measurements, say on what machine those were made, judge them by the
// aims of the project, all in Markdown, with a file's section as the place.
package benchreport
