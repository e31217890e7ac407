//go:build unix

package testdb

import (
	"fmt"
	"io"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childRole makes this test binary another process, which starts both servers.
const childRole = "TESTDB_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childRole) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(Main(m))
}

func child() error {
	p, err := newPostgres(nil)
	if err != nil {
		return err
	}
	r, err := newRedis(nil)
	if err != nil {
		return err
	}
	fmt.Println(p.process.cmd.Process.Pid, r.process.cmd.Process.Pid)
	_, err = io.Copy(io.Discard, os.Stdin) // and wait to be killed
	return err
}
