//go:build !linux

package engine

func setNice(*worker, int) error { return nil }
