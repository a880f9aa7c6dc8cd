-- Migration number: 0001
CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL, note TEXT);
CREATE TRIGGER no_anon BEFORE INSERT ON people BEGIN
  SELECT CASE WHEN new.name = '' THEN raise(ABORT, 'who; are you') END;
END;
INSERT INTO people (name) VALUES ('ann; -- not a comment'), ('bob');
