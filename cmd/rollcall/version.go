package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

var version string // set by the linker: -X main.version=v1.2.3

// versionCmd prints the version.
type versionCmd struct{}

// Run prints the version, the compiler and the platform.
func (versionCmd) Run(con *console) error {
	con.printf("rollcall %s (%s %s/%s)", programVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

// programVersion returns what the linker was told, else what the go command wrote into the program.
func programVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	return buildVersion(info)
}

// buildVersion returns the module's version, or for a build from a checkout the commit.
func buildVersion(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	settings := map[string]string{}
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}
	revision := settings["vcs.revision"]
	if revision == "" {
		return "devel"
	}
	if settings["vcs.modified"] == "true" {
		revision += "-dirty"
	}
	return fmt.Sprintf("devel-%s", revision)
}
