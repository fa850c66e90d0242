-- How a session's sandbox came to be: forked, restored, warm or cold; and why not better.
alter table sessions
    add column start text not null default 'cold',
    add column start_note text not null default '';
