//go:build unix

package main

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// postgresServer is a PostgreSQL server of this run.
type postgresServer struct {
	bed    *bed
	server *testdb.PostgresServer
}

// bed stands in for the test that internal/testdb makes servers for. Its other
// methods are not used.
type bed struct {
	testing.TB
	cleanups []func()
	failed   []error
}

func (b *bed) Helper()           {}
func (b *bed) Cleanup(f func())  { b.cleanups = append(b.cleanups, f) }
func (b *bed) Error(args ...any) { b.failed = append(b.failed, errors.New(fmt.Sprint(args...))) }
func (b *bed) Fatal(args ...any) { panic(bedFailure{errors.New(fmt.Sprint(args...))}) }

// bedFailure ends a call into internal/testdb that has failed.
type bedFailure struct{ error }

// try returns what a call failed with.
func (b *bed) try(call func()) (err error) {
	defer func() {
		if f, ok := recover().(bedFailure); ok {
			err = f.error
		}
	}()
	call()
	return nil
}

// postgres returns the server, which is started when first asked for. Nothing
// waits for its disk, and nothing is cleaned up behind a measurement's back.
func (l *lab) postgres() (*postgresServer, error) {
	if l.pg != nil {
		return l.pg, nil
	}
	s := &postgresServer{bed: new(bed)}
	err := s.bed.try(func() {
		s.server = testdb.StartPostgres(s.bed, "fsync=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0",
			"max_wal_size=4GB", "autovacuum=off", "shared_buffers=512MB", "maintenance_work_mem=256MB")
	})
	if err != nil {
		return nil, err
	}
	l.pg = s
	return s, nil
}

func (s *postgresServer) database() (dsn string, err error) {
	err = s.bed.try(func() { dsn = s.server.Database() })
	return dsn, err
}

func (s *postgresServer) close() error {
	for _, f := range s.bed.cleanups {
		f()
	}
	return errors.Join(s.bed.failed...)
}

// freeBytes is how much a directory's disk can take, negative if that cannot be told.
func freeBytes(dir string) int64 {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return -1
	}
	return int64(s.Bavail) * int64(s.Bsize)
}
