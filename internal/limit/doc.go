// Package limit admits requests under limits of their rate, of their tokens and
// of how many run at once: for this process alone, or for all nodes that share a
// Redis. In any interval of a window's length no more than the limit is admitted;
// the README has the argument.
package limit
