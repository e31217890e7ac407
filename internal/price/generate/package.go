package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
)

// maxFile bounds what is read of the package and of each file in it.
const maxFile = 32 << 20

// npmPackage is what is used of an npm package.
type npmPackage struct {
	name, version, licence string
	integrity              string
	script                 []byte
	licenceText            []byte
}

// readPackage opens a package as `npm pack` leaves it, if it is the one that
// integrity is of.
func readPackage(path, integrity string) (*npmPackage, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := readAll(f)
	if err != nil {
		return nil, err
	}
	sum := sha512.Sum512(data)
	if got := "sha512-" + base64.StdEncoding.EncodeToString(sum[:]); got != integrity {
		return nil, fmt.Errorf("%s has the integrity %s, expected %s", path, got, integrity)
	}
	files, err := untar(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var about struct{ Name, Version, License string }
	if err := json.Unmarshal(files["package/package.json"], &about); err != nil {
		return nil, fmt.Errorf("package.json: %w", err)
	}
	p := &npmPackage{
		name: about.Name, version: about.Version, licence: about.License, integrity: integrity,
		script: files["package/dist/index.js"], licenceText: files["package/LICENSE"],
	}
	if p.licence != "MIT" || len(p.licenceText) == 0 || len(p.script) == 0 {
		return nil, errors.New("expected dist/index.js, LICENSE, and the licence MIT")
	}
	return p, nil
}

func untar(data []byte) (map[string][]byte, error) {
	unpack, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for archive := tar.NewReader(unpack); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		switch header.Name {
		case "package/package.json", "package/dist/index.js", "package/LICENSE":
			if files[header.Name], err = readAll(archive); err != nil {
				return nil, fmt.Errorf("%s: %w", header.Name, err)
			}
		}
	}
}

func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("is larger than %d bytes", maxFile)
	}
	return data, err
}

// tableStart is how the script begins: with the table.
var tableStart = regexp.MustCompile(`^\s*(?:const|let|var) [A-Za-z_$][\w$]* = `)

// table returns the table of prices in the script.
func (p *npmPackage) table() ([]any, error) {
	start := tableStart.Find(p.script)
	if start == nil {
		return nil, errors.New("dist/index.js does not begin with the table; its layout has changed")
	}
	value, _, err := parseLiteral(p.script[len(start):])
	if err != nil {
		return nil, fmt.Errorf("dist/index.js: %w", err)
	}
	list, ok := value.([]any)
	if !ok {
		return nil, errors.New("dist/index.js begins with something else than the table; its layout has changed")
	}
	return list, nil
}
