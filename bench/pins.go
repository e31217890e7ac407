package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// pins say which cores processes run on.
type pins struct {
	taskset string // path of the command; empty: nothing is pinned
	proxy   int
	load    int
	note    string
}

// newPins gives the first core to the proxy and the second to everything else,
// this process included, where the system can do that.
func newPins(ctx context.Context) (pins, error) {
	cpus := allowedCPUs()
	taskset, err := exec.LookPath("taskset")
	switch {
	case len(cpus) < 2:
		return pins{note: "Not pinned: proxy, load generator and provider share what cores there are, because there are not two to be had."}, nil
	case err != nil:
		return pins{note: "Not pinned: proxy, load generator and provider share all cores, because there is no taskset command (Debian: util-linux)."}, nil
	}
	p := pins{taskset: taskset, proxy: cpus[0], load: cpus[1]}
	out, err := exec.CommandContext(ctx, taskset, "-a", "-c", "-p", strconv.Itoa(p.load), strconv.Itoa(os.Getpid())).CombinedOutput()
	if err != nil {
		return p, fmt.Errorf("pinning to core %d: %w: %s", p.load, err, out)
	}
	runtime.GOMAXPROCS(1)
	p.note = fmt.Sprintf("Pinned: the measured proxy alone on core %d, load generator and provider on core %d; GOMAXPROCS=1 each.", p.proxy, p.load)
	return p, nil
}

// command is a command that will run on a core.
func (p pins) command(core int, name string, args ...string) *exec.Cmd {
	if p.taskset == "" {
		return exec.Command(name, args...)
	}
	return exec.Command(p.taskset, append([]string{"-c", strconv.Itoa(core), name}, args...)...)
}

// unpinned is a command that may use both cores.
func (p pins) unpinned(ctx context.Context, name string, args ...string) *exec.Cmd {
	if p.taskset == "" {
		return exec.CommandContext(ctx, name, args...)
	}
	return exec.CommandContext(ctx, p.taskset, append([]string{"-c", fmt.Sprintf("%d,%d", p.proxy, p.load), name}, args...)...)
}

// allowedCPUs are the cores that this process may use, none if that cannot be told.
func allowedCPUs() []int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(status)) {
		if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
			return parseCPUList(strings.TrimSpace(list))
		}
	}
	return nil
}

// parseCPUList reads a list such as 0-3,8.
func parseCPUList(list string) []int {
	var cpus []int
	for part := range strings.SplitSeq(list, ",") {
		from, to, ranged := strings.Cut(part, "-")
		first, err := strconv.Atoi(from)
		if err != nil {
			return cpus
		}
		last := first
		if ranged {
			if last, err = strconv.Atoi(to); err != nil {
				return cpus
			}
		}
		for cpu := first; cpu <= last; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// userHz is the unit of CPU times in /proc, the same on every Linux.
const userHz = 100

// proxyCoreTime is how long the proxy's core has been busy, time that the
// hypervisor gave to others included; 0 if that cannot be told.
func (p pins) proxyCoreTime() time.Duration {
	if p.taskset == "" {
		return 0
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(stat)) {
		fields := strings.Fields(line)
		if len(fields) < 9 || fields[0] != fmt.Sprintf("cpu%d", p.proxy) {
			continue
		}
		var ticks int64
		for i, field := range fields[1:9] { // user nice system idle iowait irq softirq steal
			if i == 3 || i == 4 {
				continue
			}
			n, _ := strconv.ParseInt(field, 10, 64)
			ticks += n
		}
		return time.Duration(ticks) * time.Second / userHz
	}
	return 0
}
