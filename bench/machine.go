package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// machine is where and what was measured.
type machine struct {
	cpu      string
	cpus     int
	system   string
	binary   string // what it says of itself
	caddy    string
	golang   string
	revision string // of the sources
}

const unknown = "unknown"

func describeMachine(ctx context.Context, binary string) machine {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m := machine{cpu: cpuModel(), cpus: cpuCount(), system: runtime.GOOS + "/" + runtime.GOARCH, caddy: unknown, golang: unknown}
	m.binary = output(ctx, binary, "version")
	if info, err := buildinfo.ReadFile(binary); err == nil {
		m.golang = info.GoVersion
		for _, dep := range info.Deps {
			if dep.Path == "github.com/caddyserver/caddy/v2" {
				m.caddy = dep.Version
			}
		}
	}
	m.revision = output(ctx, "git", "rev-parse", "--short=12", "HEAD")
	if m.revision != unknown && output(ctx, "git", "status", "--porcelain", "--untracked-files=no") != unknown {
		m.revision += " with changes"
	}
	return m
}

// output is a command's first line, "unknown" without one.
func output(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil || line == "" {
		return unknown
	}
	return line
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return unknown
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return unknown
}

// cpuCount is how many the machine has: runtime.NumCPU counts those that this
// process may use.
func cpuCount() int {
	text, _ := os.ReadFile("/proc/cpuinfo")
	var n int
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "processor") {
			n++
		}
	}
	return max(n, runtime.NumCPU())
}

func (m machine) String() string {
	return fmt.Sprintf("%d × %s, %s", m.cpus, m.cpu, m.system)
}
