INSERT INTO people (name) VALUES ('lost');
INSERT INTO nowhere VALUES (1);
