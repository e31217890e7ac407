// Command generate makes the embedded table of prices out of the npm package
// that `make prices` downloads.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sofatutor/caddy-llm-proxy/internal/price"
)

func main() {
	var (
		integrity = flag.String("integrity", "", "the package's integrity, as npm tells it")
		date      = flag.String("date", "", "the day on which that version was published")
		out       = flag.String("out", "internal/price/data", "directory for the result")
	)
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: generate -integrity <sha512-…> -date <2006-01-02> [-out <dir>] <package.tgz>")
		os.Exit(2)
	}
	source, err := generate(flag.Arg(0), *integrity, *date, *out)
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
	fmt.Printf("%s@%s of %s: %d models of %d providers\n", source.Package, source.Version, source.Date, source.Models, source.Providers)
}

// generate writes the table, its source and its licence.
func generate(path, integrity, date, out string) (source price.Source, err error) {
	p, err := readPackage(path, integrity)
	if err != nil {
		return source, err
	}
	table, err := p.table()
	if err != nil {
		return source, err
	}
	if table, err = trim(table); err != nil {
		return source, err
	}
	data, err := json.Marshal(table)
	if err != nil {
		return source, err
	}
	source = price.Source{Package: p.name, Version: p.version, Date: date, Integrity: p.integrity, Licence: p.licence}
	if source.Providers, source.Models, err = price.CheckSnapshot(data); err != nil {
		return source, err
	}
	packed, err := pack(data)
	if err != nil {
		return source, err
	}
	sum := sha256.Sum256(packed)
	source.SHA256 = hex.EncodeToString(sum[:])
	about, err := json.MarshalIndent(source, "", "\t")
	if err != nil {
		return source, err
	}
	for name, content := range map[string][]byte{
		"prices.json.gz": packed,
		"source.json":    append(about, '\n'),
		"LICENSE":        p.licenceText,
	} {
		if err := os.WriteFile(filepath.Join(out, name), content, 0o644); err != nil {
			return source, err
		}
	}
	return source, nil
}

// pack compresses without a time, so that the same package makes the same file.
func pack(data []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
