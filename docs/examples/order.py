# %% [markdown]
# # order

# %%
print(1)
