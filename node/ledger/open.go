package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

var errForeign = errors.New("the file is not a ledger of this version")

// Open opens the ledger in the file path, or makes it with mode 0600, checks
// every record and the sizes of all pages, and drops records that have expired.
// bbolt has no checksums on its pages: a wrong pointer between pages is noticed
// as far as it makes records or pages missing, double or out of order.
//
// It fails if another process has the file open, after [LockTimeout]; if users
// other than the owner can open the file (not checked on Windows); and if the
// file is damaged or is something else. The text of these errors is for the
// operator and names the file.
func Open(path string, o Options) (*Ledger, error) {
	return open(path, o, os.OpenFile)
}

type openFile func(string, int, fs.FileMode) (*os.File, error)

func open(path string, o Options, file openFile) (*Ledger, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Ledger{
		path: path, now: o.Now,
		debits: make(chan *debit), quit: make(chan struct{}), done: make(chan struct{}),
	}
	err := guard(func() (err error) {
		l.db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout:      LockTimeout,
			FreelistType: bbolt.FreelistMapType,
			OpenFile: func(path string, flag int, mode fs.FileMode) (*os.File, error) {
				f, err := file(path, flag, mode)
				if err == nil {
					err = private(f)
				}
				l.file = f
				return f, err
			},
		})
		if err != nil {
			return err
		}
		return l.load()
	})
	if err != nil {
		l.abandon()
		return nil, explain(path, err)
	}
	l.close = sync.OnceValue(l.shut)
	go l.write()
	return l, nil
}

// firstTx is the number of the transaction in which bbolt made a new file.
// A later one without buckets is not new but damaged.
const firstTx = 1

// load prepares a new file, or reads every record of an old one.
func (l *Ledger) load() error {
	fresh := false
	err := l.db.View(func(tx *bbolt.Tx) error {
		n, err := l.countPages(tx)
		if err != nil {
			return err
		}
		if k, _ := tx.Cursor().First(); k == nil && tx.ID() <= firstTx {
			fresh = true
			return nil
		}
		if err := checkRecords(tx); err != nil {
			return err
		}
		// After the records, because Stats does not survive a tree that
		// the cursor of checkRecords cannot walk.
		return n.agree(tx)
	})
	if err != nil {
		return err
	}
	if fresh {
		return l.prepare()
	}
	for l.pruned, l.pruneAt = l.now(), []byte{}; l.pruneAt != nil; {
		if err := l.pruneNext(pruneKeys); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) prepare() error {
	err := l.db.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucket(usedBucket); err != nil {
			return err
		}
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		if err := meta.Put(formatKey, format); err != nil {
			return err
		}
		return state{horizon: noHorizon}.put(tx)
	})
	if err != nil {
		return err
	}
	l.pruned = l.now()
	return syncDir(filepath.Dir(l.path)) // bbolt flushes the file, not its name
}

// shut is Close, once.
func (l *Ledger) shut() error {
	close(l.quit)
	<-l.done
	if l.broken() != nil {
		l.abandon()
		return nil
	}
	if err := l.db.Close(); err != nil {
		return fmt.Errorf("close ledger %q: %w", l.path, err)
	}
	return nil
}

// abandon closes the file, and so gives up the lock that other processes see,
// but not bbolt, which after a panic may hold locks of its own for ever. What
// it has mapped stays so until the process ends.
func (l *Ledger) abandon() {
	if l.file != nil {
		unlock(l.file)
		l.file.Close()
	}
}

func explain(path string, err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("open ledger %q: another process has it open, is a node running with the same home: %w", path, err)
	case errors.Is(err, errDamaged), errors.Is(err, errForeign), errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return fmt.Errorf("open ledger %q: the file is damaged or not a ledger, restore it from a backup, or remove it and so give all grants their runs again: %w", path, err)
	}
	return fmt.Errorf("open ledger %q: %w", path, err)
}

// private refuses what users other than the owner can open: whoever can write
// the file can give away runs.
func private(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("the file is open to other users (mode %04o), run: chmod 600 %s", info.Mode().Perm(), f.Name())
	}
	return nil
}

// syncDir makes a new name in dir survive a crash of the machine.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // has no such call, and needs none
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
