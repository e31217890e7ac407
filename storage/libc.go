package storage

import (
	"log/slog"
	"runtime/debug"
)

// The database driver is C translated to Go and works only with the libc that it
// was translated for, yet another plugin in the same build can raise its version.
const (
	libcPath = "modernc.org/libc"
	libcWant = "v1.80.1" // as in the driver's go.mod; a test compares
)

// warnOfLibc says at start what would else show as strange damage later.
func warnOfLibc(logger *slog.Logger) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	if got := linkedLibc(info); got != "" && got != libcWant {
		logger.Warn("built with a libc that the database driver was not made for: build with the wanted version",
			"module", libcPath, "built_in", got, "wanted", libcWant)
	}
}

// linkedLibc is the version in the binary, or "" when the build does not say.
func linkedLibc(info *debug.BuildInfo) string {
	for _, m := range info.Deps {
		if m.Path != libcPath {
			continue
		}
		for m.Replace != nil {
			m = m.Replace
		}
		return m.Version
	}
	return ""
}
