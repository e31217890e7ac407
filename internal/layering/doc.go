// Package layering holds the test that keeps the arrows between packages one way.
package layering
