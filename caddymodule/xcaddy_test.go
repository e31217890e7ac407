package caddymodule

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/modfile"
)

// builder is xcaddy's Builder type, field for field: xcaddy.json holds exactly that.
type builder struct {
	CaddyVersion string `json:"caddy_version,omitempty"`
	Plugins      []struct {
		PackagePath string `json:"module_path,omitempty"`
		Version     string `json:"version,omitempty"`
	} `json:"plugins,omitempty"`
	Replacements []struct {
		Old string `json:"old,omitempty"`
		New string `json:"new,omitempty"`
	} `json:"replacements,omitempty"`
	TimeoutGet   time.Duration `json:"timeout_get,omitempty"`
	TimeoutBuild time.Duration `json:"timeout_build,omitempty"`
	RaceDetector bool          `json:"race_detector,omitempty"`
	SkipCleanup  bool          `json:"skip_cleanup,omitempty"`
	SkipBuild    bool          `json:"skip_build,omitempty"`
	Debug        bool          `json:"debug,omitempty"`
	BuildFlags   string        `json:"build_flags,omitempty"`
	ModFlags     string        `json:"mod_flags,omitempty"`
}

func TestXcaddy(t *testing.T) {
	file, err := os.Open("../xcaddy.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var b builder
	dec := json.NewDecoder(file)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&b); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	var required string
	for _, r := range mod.Require {
		if r.Mod.Path == "github.com/caddyserver/caddy/v2" {
			required = r.Mod.Version
		}
	}
	if b.CaddyVersion != required {
		t.Errorf("xcaddy.json builds Caddy %s, go.mod requires %s", b.CaddyVersion, required)
	}
	if len(b.Plugins) != 1 || b.Plugins[0].PackagePath != mod.Module.Mod.Path+"/caddymodule" || !strings.HasPrefix(b.Plugins[0].Version, "v") {
		t.Errorf("plugins %+v", b.Plugins)
	}
}
